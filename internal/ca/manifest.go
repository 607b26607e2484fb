package ca

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// Folder is the batch of all files in dir that are called *.csr, in the order
// of their names. A folder without one is ErrNoRequests.
func Folder(dir string) ([]Item, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, e := range entries {
		if !e.IsDir() && filepath.Ext(e.Name()) == ".csr" {
			items = append(items, Item{File: filepath.Join(dir, e.Name())})
		}
	}
	if len(items) == 0 {
		return nil, fmt.Errorf("%w: a folder's requests are its files *.csr; rename them, or name them in a CSV manifest", ErrNoRequests)
	}
	return items, nil
}

// ParseManifest reads a batch from CSV. The first line names the columns: csr,
// the request's file, relative to dir; and, where wanted, name and days, whose
// fields may be empty. It takes what spreadsheets make of it: a byte order
// mark, CRLF, semicolons between the columns.
//
// Everything that can be seen to be wrong without the requests is told at
// once, with its line, up to 10 of them; the error wraps ErrBadManifest.
func ParseManifest(data []byte, dir string) ([]Item, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	r := csv.NewReader(bytes.NewReader(data))
	header, _, _ := bytes.Cut(data, []byte("\n"))
	if bytes.ContainsRune(header, ';') && !bytes.ContainsRune(header, ',') {
		r.Comma = ';'
	}
	r.TrimLeadingSpace = true
	columns, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: line 1: it must name the columns csr, name, days", ErrBadManifest)
	}
	m := manifest{dir: dir, at: map[string]int{}, names: map[string]int{}}
	if err := m.header(columns); err != nil {
		return nil, fmt.Errorf("%w: line 1: %w", ErrBadManifest, err)
	}
	var (
		items []Item
		wrong []error
	)
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		var bad *csv.ParseError
		if errors.As(err, &bad) && errors.Is(bad.Err, csv.ErrFieldCount) {
			wrong = append(wrong, fmt.Errorf("line %d: it has %d columns, and the first line names %d", bad.StartLine, len(fields), len(columns)))
			continue
		} else if err != nil {
			wrong = append(wrong, err) // it names the line
			break
		}
		line, _ := r.FieldPos(0)
		item, err := m.item(fields, line)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", line, err))
			continue
		}
		items = append(items, item)
	}
	if len(wrong) == 0 && len(items) == 0 {
		return nil, fmt.Errorf("%w: below the columns' names stands nothing", ErrNoRequests)
	}
	return items, inOneLine(wrong)
}

// maxWrong is how many lines an error names: enough to see what they share.
const maxWrong = 10

func inOneLine(wrong []error) error {
	if len(wrong) == 0 {
		return nil
	}
	err := fmt.Errorf("%w: %w", ErrBadManifest, wrong[0])
	for _, more := range wrong[1:min(len(wrong), maxWrong)] {
		err = fmt.Errorf("%w; %w", err, more)
	}
	if rest := len(wrong) - maxWrong; rest > 0 {
		err = fmt.Errorf("%w; and %d more", err, rest)
	}
	return err
}

// The columns of a manifest.
const (
	columnRequest = "csr"
	columnName    = "name"
	columnDays    = "days"
)

// manifest is a manifest while it is read.
type manifest struct {
	dir   string
	at    map[string]int // column → place
	names map[string]int // name → line
}

func (m *manifest) header(columns []string) error {
	known := []string{columnRequest, columnName, columnDays}
	for i, column := range columns {
		column = strings.ToLower(strings.TrimSpace(column))
		if !slices.Contains(known, column) {
			return fmt.Errorf("column %q is unknown; there are %s", column, strings.Join(known, ", "))
		}
		if _, twice := m.at[column]; twice {
			return fmt.Errorf("column %q is there twice", column)
		}
		m.at[column] = i
	}
	if _, ok := m.at[columnRequest]; !ok {
		return fmt.Errorf("column %q, the request's file, is missing", columnRequest)
	}
	return nil
}

// field is empty where there is no such column.
func (m *manifest) field(fields []string, column string) string {
	if i, ok := m.at[column]; ok {
		return strings.TrimSpace(fields[i])
	}
	return ""
}

func (m *manifest) item(fields []string, line int) (item Item, err error) {
	if item.File = m.field(fields, columnRequest); item.File == "" {
		return item, errors.New("no request's file in it")
	}
	if !filepath.IsAbs(item.File) {
		item.File = filepath.Join(m.dir, item.File)
	}
	if item.Name = m.field(fields, columnName); item.Name != "" {
		if !certs.ValidThingName(item.Name) {
			return item, fmt.Errorf("%w: %q, where AWS IoT takes 1 to 128 of a-z A-Z 0-9 : _ -", ErrBadName, item.Name)
		}
		if first, twice := m.names[item.Name]; twice {
			return item, fmt.Errorf("%w: %q is in line %d too", ErrNameTwice, item.Name, first)
		}
		m.names[item.Name] = line
	}
	if days := m.field(fields, columnDays); days != "" {
		if item.Days, err = strconv.Atoi(days); err != nil || item.Days < 1 || item.Days > maxDays {
			return item, fmt.Errorf("%w: %q; give 1 to %d", ErrBadValidity, days, maxDays)
		}
	}
	return item, nil
}
