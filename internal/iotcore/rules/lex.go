package rules

import (
	"fmt"
	"strings"
	"unicode"
)

type tokenKind int

const (
	end tokenKind = iota
	word
	number
	text
	symbol
)

type token struct {
	kind  tokenKind
	value string // of a text without its quotes
	at    int    // byte offset
}

// is compares a key word without regard to case, or a symbol.
func (t token) is(value string) bool {
	return (t.kind == word || t.kind == symbol) && strings.EqualFold(t.value, value)
}

// lex takes a statement apart.
func lex(sql string) ([]token, error) {
	var out []token
	for i := 0; i < len(sql); {
		c := rune(sql[i])
		switch {
		case unicode.IsSpace(c):
			i++
		case c == '\'' || c == '"':
			value, next, err := quoted(sql, i)
			if err != nil {
				return nil, err
			}
			out = append(out, token{text, value, i})
			i = next
		case c >= '0' && c <= '9':
			n := i
			for n < len(sql) && strings.ContainsRune("0123456789.eE", rune(sql[n])) {
				n++
			}
			out = append(out, token{number, sql[i:n], i})
			i = n
		case c == '_' || c == '$' || unicode.IsLetter(c):
			n := i
			for n < len(sql) && (sql[n] == '_' || sql[n] == '$' || unicode.IsLetter(rune(sql[n])) || unicode.IsDigit(rune(sql[n]))) {
				n++
			}
			out = append(out, token{word, sql[i:n], i})
			i = n
		default:
			n := 1
			if i+1 < len(sql) && (sql[i:i+2] == "<>" || sql[i:i+2] == "<=" || sql[i:i+2] == ">=" || sql[i:i+2] == "!=") {
				n = 2
			}
			if !strings.ContainsRune("*,.()[]=<>+-/%!", c) || sql[i:i+n] == "!" {
				return nil, fmt.Errorf("unexpected %q at position %d", c, i)
			}
			out = append(out, token{symbol, sql[i : i+n], i})
			i += n
		}
	}
	return append(out, token{end, "the end", len(sql)}), nil
}

// quoted reads a string that begins at i. A quote in it is doubled.
func quoted(sql string, i int) (value string, next int, err error) {
	quote := sql[i]
	var b strings.Builder
	for n := i + 1; n < len(sql); n++ {
		if sql[n] != quote {
			b.WriteByte(sql[n])
			continue
		}
		if n+1 < len(sql) && sql[n+1] == quote {
			b.WriteByte(quote)
			n++
			continue
		}
		return b.String(), n + 1, nil
	}
	return "", 0, fmt.Errorf("the string at position %d has no end", i)
}
