package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

func sorted[T cmp.Ordered](values []T) []T { return slices.Sorted(slices.Values(values)) }

// percentile of sorted values, the nearest rank.
func percentile[T any](values []T, p int) T {
	return values[max(0, (len(values)*p+99)/100-1)]
}

// short prints a time to three digits or so.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.1f min", d.Minutes())
	default:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
}

// count prints a number with commas.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func mark(ok bool) string {
	if ok {
		return "✓"
	}
	return "✗"
}
