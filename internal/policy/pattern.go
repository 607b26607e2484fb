package policy

import (
	"fmt"
	"strings"
)

// pattern is a string of a policy with its wildcards and variables taken
// apart, so that a value put in for a variable can never act as a wildcard.
type pattern []element

type element struct {
	kind kind
	text string // the literal, or the variable's name
}

type kind byte

const (
	literal  kind = iota
	any1          // ?
	anyMany       // *
	variable      // ${name}
)

// compile takes s apart. ${*}, ${?} and ${$} stand for the characters
// themselves (IAM user guide, policy variables).
func compile(s string) (pattern, error) {
	var p pattern
	for s != "" {
		i := strings.IndexAny(s, "*?$")
		if i < 0 {
			return append(p, element{literal, s}), nil
		}
		if i > 0 {
			p = append(p, element{literal, s[:i]})
			s = s[i:]
		}
		switch {
		case s[0] == '*':
			p = append(p, element{kind: anyMany})
			s = s[1:]
		case s[0] == '?':
			p = append(p, element{kind: any1})
			s = s[1:]
		case strings.HasPrefix(s, "${"):
			name, rest, ok := strings.Cut(s[2:], "}")
			if !ok {
				return nil, fmt.Errorf("%q has no closing brace", s)
			}
			switch name {
			case "*", "?", "$":
				p = append(p, element{literal, name})
			case "":
				return nil, fmt.Errorf("%q is an empty variable", "${}")
			default:
				p = append(p, element{variable, name})
			}
			s = rest
		default: // a $ as it stands, as in $aws/things
			p = append(p, element{literal, "$"})
			s = s[1:]
		}
	}
	return p, nil
}

// resolve puts the variables' values in. ok is false where one has none.
func (p pattern) resolve(vars Variables) (resolved pattern, ok bool) {
	for i, e := range p {
		if e.kind != variable {
			if resolved != nil {
				resolved = append(resolved, e)
			}
			continue
		}
		value, known := vars[e.text]
		if !known {
			return nil, false
		}
		if resolved == nil { // only now is a copy needed
			resolved = append(make(pattern, 0, len(p)), p[:i]...)
		}
		resolved = append(resolved, element{literal, value})
	}
	if resolved == nil {
		return p, true
	}
	return resolved, true
}

// match says whether p describes the whole of s.
func (p pattern) match(s string, vars Variables) bool {
	p, ok := p.resolve(vars)
	return ok && glob(p, s)
}

// glob goes back only to the last *, so it is linear for each of them and
// never exponential.
func glob(p pattern, s string) bool {
	i, j := 0, 0        // next element, next byte
	star, mark := -1, 0 // the last * and the byte where it stopped
	for j < len(s) || i < len(p) {
		if i < len(p) {
			switch e := p[i]; {
			case e.kind == anyMany:
				star, mark = i, j
				i++
				continue
			case e.kind == any1 && j < len(s):
				i++
				j++
				continue
			case e.kind == literal && strings.HasPrefix(s[j:], e.text):
				i++
				j += len(e.text)
				continue
			}
		}
		if star < 0 || mark >= len(s) {
			return false
		}
		mark++
		i, j = star+1, mark
	}
	return true
}
