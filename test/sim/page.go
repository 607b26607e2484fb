package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// page is what a simulation has to say: tables by name, and pictures by file
// name.
type page struct {
	tables   []table
	pictures map[string]*chart
}

type table struct{ name, text string }

func (p *page) table(name, text string) { p.tables = append(p.tables, table{name, text}) }

// A table stands in the page between these two lines, and only a program
// writes there.
const (
	tableBegin = "<!-- make sim writes %s -->\n"
	tableEnd   = "<!-- end -->\n"
)

// split finds a table in a page.
func split(text, name string) (before, old, after string, err error) {
	begin := fmt.Sprintf(tableBegin, name)
	before, rest, found := strings.Cut(text, begin)
	if !found {
		return "", "", "", fmt.Errorf("no line %q", strings.TrimSpace(begin))
	}
	old, after, found = strings.Cut(rest, tableEnd)
	if !found {
		return "", "", "", fmt.Errorf("table %s has no line %q", name, strings.TrimSpace(tableEnd))
	}
	return before + begin, old, tableEnd + after, nil
}

// write puts tables and pictures into the directory docs.
func (p *page) write(docs string) error {
	file := filepath.Join(docs, "first-connect.md")
	content, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	text := string(content)
	for _, t := range p.tables {
		before, _, after, err := split(text, t.name)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		text = before + "\n" + t.text + "\n" + after
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(docs, "img"), 0o755); err != nil {
		return fmt.Errorf("write the pictures: %w", err)
	}
	for name, c := range p.pictures {
		if err := os.WriteFile(filepath.Join(docs, "img", name), []byte(c.svg()), 0o644); err != nil {
			return fmt.Errorf("write the pictures: %w", err)
		}
	}
	return nil
}
