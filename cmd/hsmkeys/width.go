package main

import (
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// wide is the option --wide: lines are as long as they are.
var wide bool

// terminalWidth returns how many columns there are for what goes to f, or 0 where nobody
// counts them: f is no terminal, or does not know, or --wide is set.
func terminalWidth(f *os.File) int {
	if wide || !isTerminal(f) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

const (
	columnGap = 2
	minColumn = 8 // a column is not made narrower
)

// fit makes the widest columns narrower until a row has at most so many characters, or none
// can be made narrower. As long as others can, a column does not get narrower than its
// longest word, so that times and identifiers stay whole. A width of 0 is no limit.
func fit(columns, words []int, width int) []int {
	fitted := append([]int(nil), columns...)
	over := columnGap*(len(columns)-1) - width
	for _, c := range columns {
		over += c
	}
	if width == 0 {
		return fitted
	}
	for _, least := range []func(i int) int{func(i int) int { return max(words[i], minColumn) }, func(int) int { return minColumn }} {
		for ; over > 0; over-- {
			widest := -1
			for i, c := range fitted {
				if c > least(i) && (widest < 0 || c > fitted[widest]) {
					widest = i
				}
			}
			if widest < 0 {
				break
			}
			fitted[widest]--
		}
	}
	return fitted
}

// longestWord returns the number of characters of the longest word of a text.
func longestWord(text string) int {
	longest := 0
	for _, word := range strings.Fields(text) {
		longest = max(longest, utf8.RuneCountInString(word))
	}
	return longest
}

// wrapText cuts a text into lines of at most so many characters, between words where it can.
func wrapText(text string, width int) (lines []string) {
	if utf8.RuneCountInString(text) <= width {
		return []string{text}
	}
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		runes := []rune(word)
		for ; len(runes) > width; runes = runes[width:] {
			lines = append(lines, string(runes[:width]))
		}
		line = string(runes)
	}
	return append(lines, line)
}
