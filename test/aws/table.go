package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The table stands in docs/compatibility.md between these two lines, and only
// this program writes there.
const (
	tableBegin = "<!-- make test-aws writes this table -->\n"
	tableEnd   = "<!-- end -->\n"
)

// columns are the places where it can be run. A run fills its own.
func columns() []string { return []string{"emulator", "AWS"} }

// notRun is what stands in the column of a place where it was not run.
const notRun = "not run"

// writeTable puts rows into one column of the table. The others keep what they
// have, by the row's situation and client.
func writeTable(docs, column string, rows []row) error {
	file := filepath.Join(docs, "compatibility.md")
	content, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	before, rest, found := strings.Cut(string(content), tableBegin)
	old, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		return errors.New("write the table: " + file + " has no place for it")
	}
	text := before + tableBegin + "\n" + render(column, rows, parse(old)) + "\n" + tableEnd + after
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// parse finds what each column says of a situation and a client.
func parse(table string) map[[3]string]string {
	cells := map[[3]string]string{}
	for line := range strings.Lines(table) {
		fields := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(fields) != 2+len(columns()) {
			continue
		}
		for i, column := range columns() {
			cells[[3]string{strings.TrimSpace(fields[0]), strings.TrimSpace(fields[1]), column}] = strings.TrimSpace(fields[2+i])
		}
	}
	return cells
}

func render(column string, rows []row, old map[[3]string]string) string {
	var b strings.Builder
	b.WriteString("| situation | client | " + strings.Join(columns(), " | ") + " |\n|" + strings.Repeat("---|", 2+len(columns())) + "\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s |", r.situation, r.client)
		for _, c := range columns() {
			result := old[[3]string{r.situation, r.client, c}]
			if c == column {
				result = strings.NewReplacer("|", "/", "\n", " ").Replace(r.result)
			}
			b.WriteString(" " + orNotRun(result) + " |")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func orNotRun(s string) string {
	if s == "" {
		return notRun
	}
	return s
}
