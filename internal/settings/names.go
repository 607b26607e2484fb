package settings

import (
	"slices"
	"strings"
)

func (l *loader) field(table, key string) (field, bool) {
	for _, f := range l.fields {
		if f.table == table && f.key == key {
			return f, true
		}
	}
	return field{}, false
}

func (l *loader) isTable(name string) bool { return slices.Contains(l.tableNames(), name) }

func (l *loader) tableNames() []string {
	var all []string
	for _, f := range l.fields {
		all = append(all, f.table)
	}
	return slices.Compact(all)
}

// unknownKey reports a key that its table does not have, and the key that was
// meant.
func (l *loader) unknownKey(in string, key part) {
	var here []string
	for _, f := range l.fields {
		if f.table == in {
			here = append(here, f.key)
		}
	}
	hint := didYouMean(key.name, here)
	if hint == "" {
		hint = l.elsewhere(key.name)
	}
	l.fail(key.at, "%s.%s: there is no such key%s", in, key.name, hint)
}

// unknownOutside reports a key before the first [table] that names no table.
func (l *loader) unknownOutside(name string, at int) {
	hint := l.elsewhere(name)
	if hint == "" {
		hint = didYouMean(name, l.tableNames())
	}
	l.fail(at, "%s: there is no such key outside of a table%s", name, hint)
}

// elsewhere names the tables that do have the key.
func (l *loader) elsewhere(key string) string {
	var in []string
	for _, f := range l.fields {
		if f.key == key {
			in = append(in, "["+f.table+"]")
		}
	}
	if len(in) == 0 {
		return ""
	}
	return "; it belongs in " + strings.Join(in, " or ")
}

// didYouMean suggests the candidate that is a typing error away from name.
func didYouMean(name string, candidates []string) string {
	best, nearest := "", 1+min(2, len(name)/3)
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(c), nearest); d < nearest {
			best, nearest = c, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is how many characters have to be inserted, deleted, replaced or
// swapped with their neighbour to make b of a (optimal string alignment);
// anything at or above limit may come back as limit.
func distance(a, b string, limit int) int {
	if max(len(a), len(b))-min(len(a), len(b)) >= limit {
		return limit
	}
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
