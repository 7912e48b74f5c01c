// Package docs has those pages of the documentation that the program shows too.
package docs

import _ "embed"

// Format is the format of stored objects, in Markdown.
//
//go:embed format.md
var Format string
