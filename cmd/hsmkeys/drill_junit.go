package main

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// The report in the form of JUnit's results that the plugins of CI systems read: one test case for each
// version of a key, for each holder, and for the rehearsals of each authority.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Time      string      `xml:"time,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Skipped *junitMessage `xml:"skipped,omitempty"`
		Failure *junitMessage `xml:"failure,omitempty"`
		Out     string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
	}
)

// writeJUnit writes the report. What is to be done soon fails only if strict; failed is what did not verify.
func writeJUnit(ctx context.Context, path string, c hsmkeys.Coverage, soon []concern, strict bool, failed error) error {
	verified := junitCase{Class: "hsmkeys.verification", Name: "proofs, rehearsals and shares", Time: "0"}
	if failed != nil {
		verified.Failure = &junitMessage{text.Line(failed.Error())}
	}
	all := junitSuites{Suites: []junitSuite{
		junitOf("keys", c.Time, junitKeys(c)), junitOf("holders", c.Time, junitHolders(c, soon, strict)),
		junitOf("verification", c.Time, []junitCase{verified}),
	}}
	return datafile.Write(ctx, path, func(w io.Writer) error {
		if _, err := io.WriteString(w, xml.Header); err != nil {
			return err
		}
		e := xml.NewEncoder(w)
		e.Indent("", "  ")
		if err := e.Encode(all); err != nil {
			return err
		}
		_, err := io.WriteString(w, "\n")
		return err
	})
}

func junitOf(name string, at time.Time, cases []junitCase) junitSuite {
	s := junitSuite{Name: "hsmkeys drill: " + name, Tests: len(cases), Timestamp: at.UTC().Format("2006-01-02T15:04:05"), Time: "0", Cases: cases}
	for _, c := range cases {
		switch {
		case c.Failure != nil:
			s.Failures++
		case c.Skipped != nil:
			s.Skipped++
		}
	}
	return s
}

func junitKeys(c hsmkeys.Coverage) (cases []junitCase) {
	for _, key := range c.Keys {
		t := junitCase{Class: "hsmkeys.keys", Name: hsmkeys.Ref{Name: key.Name, Version: key.Version}.String(), Time: "0"}
		switch {
		case key.PasswordOnly:
			t.Skipped = &junitMessage{"it comes from a password only: no token has it"}
		case key.Lost:
			t.Failure = &junitMessage{"it would be lost with a single token"}
		}
		cases = append(cases, t)
	}
	return cases
}

func junitHolders(c hsmkeys.Coverage, soon []concern, strict bool) (cases []junitCase) {
	for i, h := range c.Holders {
		t := junitCase{Class: "hsmkeys.holders", Name: h.Role + " " + h.Label, Time: "0"}
		t.Out = fmt.Sprintf("opens %d of %d, proven %d, rehearsed %s", h.Opens, len(c.Keys), h.Proven, rehearsedText(h))
		if h.Quorum != nil {
			t.Out += "; " + quorumText(h.Quorum)
		}
		var failing []string
		for _, concern := range slices.DeleteFunc(slices.Clone(soon), func(c concern) bool { return c.holder != i }) {
			t.Out += "\n" + concern.Text
			if strict {
				failing = append(failing, concern.Text)
			}
		}
		if len(failing) > 0 {
			t.Failure = &junitMessage{strings.Join(failing, "; ")}
		}
		if h.Quorum != nil && h.Quorum.Broken != "" {
			t.Failure = &junitMessage{quorumText(h.Quorum)}
		}
		cases = append(cases, t)
	}
	return cases
}
