package main

import (
	"context"
	_ "embed"
	"html/template"
	"io"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/text"
)

// The report is one page without a script and without anything from elsewhere, so
// that it can be mailed, printed and kept. Each cell says in words what its colour
// says.
//
//go:embed drill.html
var reportPage string

var reportTemplate = template.Must(template.New("drill").Funcs(template.FuncMap{
	"when": text.Time,
	"date": func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
	"class": func(key hsmkeys.KeyCoverage, cell hsmkeys.Cell) string {
		switch {
		case key.PasswordOnly:
			return "password"
		case !cell.Opens:
			return "none"
		case key.Lost:
			return "lost"
		case !cell.Proven.IsZero():
			return "proven"
		case !cell.Earlier.IsZero():
			return "earlier"
		default:
			return "covered"
		}
	},
}).Parse(reportPage))

func writeReport(ctx context.Context, path string, coverage hsmkeys.Coverage) error {
	return datafile.Write(ctx, path, func(w io.Writer) error { return reportTemplate.Execute(w, coverage) })
}
