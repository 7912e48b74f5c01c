package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// series are the seconds of one command.
type series struct {
	name    string
	seconds []float64
}

var colours = []string{"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b"}

// chart plots seconds on a logarithmic axis against names, writes the SVG beside the
// document, and adds it and its numbers to the tables.
func (b *bench) chart(name, title string, over []string, all []series) error {
	const width, height, left, right, top, bottom = 640, 300, 60, 150, 30, 30
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range all {
		for _, v := range s.seconds {
			low, high = min(low, v), max(high, v)
		}
	}
	low, high = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if low == high {
		high++
	}
	x := func(i int) float64 {
		if len(over) == 1 {
			return left
		}
		return left + float64(i)*(width-left-right)/float64(len(over)-1)
	}
	y := func(v float64) float64 {
		return height - bottom - (math.Log10(v)-low)/(high-low)*(height-top-bottom)
	}
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", width, height)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="white"/><text x="%d" y="16" font-size="13">%s</text>`+"\n", width, height, left, html.EscapeString(title))
	for e := low; e <= high; e++ {
		v := math.Pow(10, e)
		fmt.Fprintf(&svg, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left, width-right, y(v), y(v), left-6, y(v)+4, duration(v))
	}
	for i, label := range over {
		fmt.Fprintf(&svg, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(i), height-bottom+16, html.EscapeString(label))
	}
	ends := map[int]bool{}
	for i, s := range all {
		colour := colours[i%len(colours)]
		var points []string
		for j, v := range s.seconds {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(j), y(v)))
			fmt.Fprintf(&svg, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x(j), y(v), colour)
		}
		at := int(y(s.seconds[len(s.seconds)-1])) + 4
		for ends[at/12] { // no name on another
			at += 12
		}
		ends[at/12] = true
		fmt.Fprintf(&svg, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/><text x="%d" y="%d" fill="%s">%s</text>`+"\n",
			strings.Join(points, " "), colour, width-right+8, at, colour, html.EscapeString(s.name))
	}
	svg.WriteString("</svg>\n")
	if err := os.MkdirAll("docs/performance", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join("docs/performance", name+".svg"), []byte(svg.String()), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(&b.out, "\n![%s](performance/%s.svg)\n\n", title, name)
	rows := [][]string{append([]string{title}, over...)}
	for _, s := range all {
		row := []string{s.name}
		for _, v := range s.seconds {
			row = append(row, duration(v))
		}
		rows = append(rows, row)
	}
	b.table(rows)
	return nil
}

func duration(seconds float64) string {
	switch {
	case seconds < 0.001:
		return fmt.Sprintf("%.2g ms", seconds*1000)
	case seconds < 1:
		return fmt.Sprintf("%.0f ms", seconds*1000)
	case seconds < 10:
		return fmt.Sprintf("%.1f s", seconds)
	}
	return fmt.Sprintf("%.0f s", seconds)
}
