package token

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/miekg/pkcs11"
)

// PairName names a key exchange pair on its token. An empty field matches everything.
type PairName struct {
	Label string // CKA_LABEL
	ID    []byte // CKA_ID
}

func (n PairName) template() []*pkcs11.Attribute {
	var template []*pkcs11.Attribute
	if n.Label != "" {
		template = append(template, attr(pkcs11.CKA_LABEL, n.Label))
	}
	if len(n.ID) > 0 {
		template = append(template, attr(pkcs11.CKA_ID, n.ID))
	}
	return template
}

func (n PairName) String() string {
	switch {
	case n.Label != "":
		return fmt.Sprintf("%q", n.Label)
	case len(n.ID) > 0:
		return fmt.Sprintf("id %x", n.ID)
	default:
		return "of the token"
	}
}

// URI returns the RFC 7512 URI of the pair, with its id and its label: two pairs may have the same
// id.
func (p PairName) URI() string {
	var attributes []string
	if len(p.ID) > 0 {
		var id strings.Builder
		for _, b := range p.ID {
			fmt.Fprintf(&id, "%%%02x", b)
		}
		attributes = append(attributes, "id="+id.String())
	}
	if p.Label != "" {
		attributes = append(attributes, "object="+url.PathEscape(p.Label))
	}
	return "pkcs11:" + strings.Join(attributes, ";")
}
