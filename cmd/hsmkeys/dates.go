package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
)

// parseDays returns the number of days in text such as 90d, and reports whether it is one, from least to
// 100 years.
func parseDays(s string, least int) (int, bool) {
	number, ok := strings.CutSuffix(s, "d")
	n, err := strconv.Atoi(number)
	return n, ok && err == nil && n >= least && n <= hsmkeys.MaxRotateEvery && strconv.Itoa(n) == number
}

// parseExpiry parses --expires: the end of a day in UTC, a time, or a number of days from now.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	at, ok := time.Time{}, false
	if n, days := parseDays(s, 1); days {
		return now.AddDate(0, 0, n), nil
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		at, ok = day.AddDate(0, 0, 1).Add(-time.Second), true
	} else if at, err = time.Parse(time.RFC3339, s); err == nil {
		ok = true
	}
	switch {
	case !ok:
		return at, failure.Usage("--expires is a date such as 2027-12-31 or 2027-12-31T18:00:00Z, or a number of days such as 90d, not %q", s)
	case !at.After(now):
		return at, failure.UsageHint("a key that is to encrypt nothing more is deactivated: hsmkeys deactivate", "--expires %s is in the past", s)
	}
	return at, nil
}

// parseRotateEvery parses --rotate-every.
func parseRotateEvery(s string) (int, error) {
	if n, ok := parseDays(s, 1); ok {
		return n, nil
	}
	return 0, failure.Usage("--rotate-every is a number of days such as 90d, not %q", s)
}

// parseAge parses --older-than, and returns the time that so many days or hours are since.
func parseAge(s string, now time.Time) (time.Time, error) {
	if n, ok := parseDays(s, 0); ok {
		return now.AddDate(0, 0, -n), nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, failure.Usage("--older-than is an age such as 90d or 12h, not %q", s)
}
