package main

import (
	"time"

	"github.com/hsmkeys/hsmkeys"
)

// A timeline is when holders have proven and rehearsed, as a picture for the report. Lengths are in units
// of an SVG.
type timeline struct {
	From, To time.Time
	Height   int
	Rows     []timelineRow
}

type timelineRow struct {
	Label string
	Y     int
	Marks []timelineMark
}

type timelineMark struct {
	X         int
	Time      time.Time
	Rehearsal bool // or else a proof
}

const (
	timelineLeft, timelineWidth = 180, 700
	timelineRowHeight           = 26
)

// timelineOf returns the timeline of a report, or nil if nothing was proven or rehearsed.
func timelineOf(c hsmkeys.Coverage) *timeline {
	t := &timeline{To: c.Time, From: c.Time.AddDate(0, 0, -1)} // a day at least
	marks := 0
	for _, h := range c.Holders {
		row := timelineRow{Label: h.Label, Y: (len(t.Rows) + 1) * timelineRowHeight}
		for _, at := range h.Proofs {
			row.Marks = append(row.Marks, timelineMark{Time: at})
		}
		if h.Quorum != nil {
			for _, custodian := range h.Quorum.Custodians {
				if !custodian.Proven.IsZero() {
					row.Marks = append(row.Marks, timelineMark{Time: custodian.Proven})
				}
			}
		}
		for _, r := range h.Rehearsals {
			row.Marks = append(row.Marks, timelineMark{Time: r.Time, Rehearsal: true})
		}
		for _, m := range row.Marks {
			if m.Time.Before(t.From) {
				t.From = m.Time
			}
		}
		t.Rows, marks = append(t.Rows, row), marks+len(row.Marks)
	}
	if marks == 0 {
		return nil
	}
	span := t.To.Sub(t.From)
	for _, row := range t.Rows {
		for i := range row.Marks {
			m := &row.Marks[i]
			part := min(float64(m.Time.Sub(t.From))/float64(span), 1) // a clock may be ahead
			m.X = timelineLeft + int(part*timelineWidth)
		}
	}
	t.Height = (len(t.Rows) + 2) * timelineRowHeight
	return t
}
