package wire

import "filippo.io/age"

// FromStanzas returns the messages for the stanzas of an age file.
func FromStanzas(stanzas []*age.Stanza) []*Stanza {
	all := make([]*Stanza, len(stanzas))
	for i, s := range stanzas {
		all[i] = &Stanza{Type: s.Type, Args: s.Args, Body: s.Body}
	}
	return all
}

// ToStanzas returns the stanzas in messages.
func ToStanzas(messages []*Stanza) []*age.Stanza {
	all := make([]*age.Stanza, len(messages))
	for i, m := range messages {
		all[i] = &age.Stanza{Type: m.GetType(), Args: m.GetArgs(), Body: m.GetBody()}
	}
	return all
}
