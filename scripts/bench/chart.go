package main

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A series is how many seconds one command takes.
type series struct {
	name    string
	seconds []float64
}

// chart draws seconds on a logarithmic axis, writes the chart beside the document, and puts it and
// its numbers into the document. over names the places on the other axis.
func (b *bench) chart(name, title string, over []string, all []series) error {
	if err := drawChart(filepath.Join("docs/performance", name+".svg"), title, over, all); err != nil {
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

// drawChart writes a chart as SVG. Its legend stands beside it, where it covers no line.
func drawChart(path, title string, over []string, all []series) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p, legend := plot.New(), plot.NewLegend()
	p.Title.Text = title
	p.Title.Padding = vg.Points(6)
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(decades)
	var places []plot.Tick
	for i, label := range over {
		places = append(places, plot.Tick{Value: float64(i), Label: label})
	}
	p.X.Tick.Marker, p.X.Padding = plot.ConstantTicks(places), vg.Points(8)
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{Y: 220}, nil
	p.Add(grid)
	low, high := math.Inf(1), math.Inf(-1)
	for i, s := range all {
		points := make(plotter.XYs, len(s.seconds))
		for j, v := range s.seconds {
			points[j] = plotter.XY{X: float64(j), Y: v}
			low, high = min(low, v), max(high, v)
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, dots.Color = plotutil.Color(i), plotutil.Color(i)
		line.Width, dots.Shape = vg.Points(1.2), plotutil.Shape(i)
		p.Add(line, dots)
		legend.Add(s.name, line, dots)
	}
	p.Y.Min, p.Y.Max = decade(low), 10*decade(high)
	legend.Top, legend.Padding = true, vg.Points(3)
	legend.Left, legend.ThumbnailWidth = true, vg.Points(16)

	const width, height, beside = 480, 240, 130
	canvas, err := draw.NewFormattedCanvas(vg.Points(width), vg.Points(height), "svg")
	if err != nil {
		return err
	}
	whole := draw.New(canvas)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	p.Draw(draw.Crop(whole, vg.Points(4), -vg.Points(beside), 0, -vg.Points(4)))
	legend.Draw(draw.Crop(whole, vg.Points(width-beside), 0, 0, -vg.Points(30)))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// decade returns the power of ten at or below a number of seconds.
func decade(seconds float64) float64 { return math.Pow(10, math.Floor(math.Log10(seconds))) }

// decades are the ticks of the axis.
func decades(low, high float64) (ticks []plot.Tick) {
	for at := decade(low); at <= high*1.001; at *= 10 {
		ticks = append(ticks, plot.Tick{Value: at, Label: duration(at)})
	}
	return ticks
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
