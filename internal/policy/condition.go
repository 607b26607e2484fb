package policy

import (
	"fmt"
	"slices"
	"strings"
)

// condition is one key of one operator: it holds where the key's value
// passes for any of the wanted ones.
type condition struct {
	key    string
	want   []pattern
	negate bool // the Not operators: it passes for none of them
	fold   bool // without regard to case
}

// operators that a document may use. A negated operator also holds for a key
// without a value, as in IAM.
func operator(name string) (o struct{ negate, fold, wildcards, boolean bool }, ok bool) {
	switch name {
	case "Bool":
		o.boolean, o.fold = true, true
	case "StringEquals":
	case "StringNotEquals":
		o.negate = true
	case "StringEqualsIgnoreCase":
		o.fold = true
	case "StringNotEqualsIgnoreCase":
		o.negate, o.fold = true, true
	case "StringLike":
		o.wildcards = true
	case "StringNotLike":
		o.negate, o.wildcards = true, true
	case "ArnEquals", "ArnLike": // the same, in IAM
		o.wildcards = true
	case "ArnNotEquals", "ArnNotLike":
		o.negate, o.wildcards = true, true
	default:
		return o, false
	}
	return o, true
}

const operatorNames = "Bool, StringEquals, StringNotEquals, StringEqualsIgnoreCase, StringNotEqualsIgnoreCase, StringLike, StringNotLike, ArnEquals, ArnLike, ArnNotEquals and ArnNotLike"

func newCondition(name, key string, values []string) (condition, error) {
	o, ok := operator(name)
	if !ok {
		return condition{}, fmt.Errorf("condition operator %q is not known; use one of %s", name, operatorNames)
	}
	c := condition{key: key, negate: o.negate, fold: o.fold}
	for _, v := range values {
		if o.boolean && !slices.Contains([]string{"true", "false"}, strings.ToLower(v)) {
			return condition{}, fmt.Errorf("condition Bool on %s wants true or false, not %q", key, v)
		}
		p, err := compile(v)
		if err != nil {
			return condition{}, err
		}
		if !o.wildcards {
			p = withoutWildcards(p)
		}
		if o.fold {
			p = lower(p)
		}
		c.want = append(c.want, p)
	}
	return c, nil
}

func (c condition) holds(vars Variables) bool {
	value, ok := vars[c.key]
	if !ok {
		return c.negate
	}
	if c.fold {
		value = strings.ToLower(value)
	}
	return matchAny(c.want, value, vars) != c.negate
}

func withoutWildcards(p pattern) pattern {
	out := slices.Clone(p)
	for i, e := range out {
		switch e.kind {
		case any1:
			out[i] = element{literal, "?"}
		case anyMany:
			out[i] = element{literal, "*"}
		case literal, variable: // have none
		}
	}
	return out
}

func lower(p pattern) pattern {
	out := slices.Clone(p)
	for i, e := range out {
		if e.kind == literal {
			out[i].text = strings.ToLower(e.text)
		}
	}
	return out
}
