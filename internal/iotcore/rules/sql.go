package rules

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// statement is a parsed SELECT. It is immutable.
type statement struct {
	all    bool     // SELECT *, alone or before other columns
	cols   []column // more of SELECT
	filter string   // of FROM
	where  expr     // nil: always
}

type column struct {
	name string
	expr expr
}

// parse reads a statement of the AWS IoT SQL of 2016-03-23: SELECT with *,
// fields, literals, operators and functions, FROM a topic filter, WHERE. What
// it does not know it refuses, and does not guess.
func parse(sql string) (*statement, error) {
	tokens, err := lex(sql)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	s, err := p.statement()
	if err != nil {
		return nil, fmt.Errorf("%w at position %d", err, p.peek().at)
	}
	return s, nil
}

type parser struct {
	tokens []token
	i      int
	depth  int
}

func (p *parser) peek() token { return p.tokens[p.i] }

func (p *parser) next() token {
	t := p.tokens[p.i]
	if t.kind != end {
		p.i++
	}
	return t
}

func (p *parser) take(value string) bool {
	if p.peek().is(value) {
		p.i++
		return true
	}
	return false
}

func (p *parser) want(value string) error {
	if !p.take(value) {
		return fmt.Errorf("%q where %q is expected", p.peek().value, value)
	}
	return nil
}

func (p *parser) statement() (*statement, error) {
	s := &statement{}
	if err := p.want("SELECT"); err != nil {
		return nil, err
	}
	if p.peek().is("VALUE") && !slices.ContainsFunc([]string{",", "AS", "FROM", "."}, p.tokens[p.i+1].is) {
		return nil, errors.New("SELECT VALUE is not known to the emulator")
	}
	for {
		if p.take("*") {
			s.all = true
		} else {
			c, err := p.column(len(s.cols))
			if err != nil {
				return nil, err
			}
			s.cols = append(s.cols, c)
		}
		if !p.take(",") {
			break
		}
	}
	if err := p.want("FROM"); err != nil {
		return nil, err
	}
	filter := p.next()
	if filter.kind != text || filter.value == "" {
		return nil, fmt.Errorf("%q where a topic filter in quotes is expected", filter.value)
	}
	s.filter = filter.value
	if p.take("WHERE") {
		var err error
		if s.where, err = p.or(); err != nil {
			return nil, err
		}
	}
	if p.peek().kind != end {
		return nil, fmt.Errorf("unexpected %q", p.peek().value)
	}
	return s, nil
}

// column is an expression with its name in the output: that after AS, or that
// of the field or function.
func (p *parser) column(n int) (column, error) {
	first := p.peek()
	e, err := p.or()
	if err != nil {
		return column{}, err
	}
	c := column{name: strconv.Itoa(n), expr: e}
	switch e := e.(type) {
	case path:
		c.name = e[len(e)-1]
	case call:
		c.name = first.value
	}
	if p.take("AS") {
		t := p.next()
		if t.kind != word && t.kind != text {
			return column{}, fmt.Errorf("%q is no name", t.value)
		}
		c.name = t.value
	}
	return c, nil
}

// maxDepth bounds the parentheses of an expression.
const maxDepth = 64

func (p *parser) or() (expr, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxDepth {
		return nil, errors.New("the expression is nested too deeply")
	}
	return p.chain(p.and, "OR")
}

func (p *parser) and() (expr, error) { return p.chain(p.not, "AND") }

func (p *parser) not() (expr, error) {
	n := 0
	for p.take("NOT") {
		n++
	}
	e, err := p.comparison()
	if err == nil && n%2 == 1 {
		e = negation{e}
	}
	return e, err
}

func (p *parser) comparison() (expr, error) {
	left, err := p.sum()
	if err != nil {
		return nil, err
	}
	for _, op := range []string{"=", "<>", "!=", "<=", ">=", "<", ">"} {
		if p.take(op) {
			right, err := p.sum()
			return binary{op, left, right}, err
		}
	}
	return left, nil
}

func (p *parser) sum() (expr, error) { return p.chain(p.product, "+", "-") }

func (p *parser) product() (expr, error) { return p.chain(p.primary, "*", "/", "%") }

// chain reads operands with left-associative operators between them.
func (p *parser) chain(operand func() (expr, error), ops ...string) (expr, error) {
	left, err := operand()
	for err == nil {
		i := slices.IndexFunc(ops, p.take)
		if i < 0 {
			break
		}
		var right expr
		right, err = operand()
		left = binary{ops[i], left, right}
	}
	return left, err
}

func (p *parser) primary() (expr, error) {
	t := p.next()
	switch {
	case t.kind == text:
		return literal{t.value}, nil
	case t.kind == number:
		n, err := strconv.ParseFloat(t.value, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no number", t.value)
		}
		return literal{n}, nil
	case t.is("-") && p.peek().kind == number:
		e, err := p.primary()
		if err != nil {
			return nil, err
		}
		return literal{-e.(literal).value.(float64)}, nil
	case t.is("("):
		e, err := p.or()
		if err != nil {
			return nil, err
		}
		return e, p.want(")")
	case t.is("true"), t.is("false"):
		return literal{t.is("true")}, nil
	case t.is("null"):
		return literal{nil}, nil
	case t.kind == word && p.take("("):
		return p.call(t.value)
	case t.kind == word && !slices.ContainsFunc([]string{"SELECT", "FROM", "WHERE", "AS", "AND", "OR", "NOT", "CASE", "IN"}, t.is):
		return p.path(t.value)
	}
	p.i = max(0, p.i-1)
	return nil, fmt.Errorf("%q is not known to the emulator", t.value)
}

func (p *parser) path(first string) (expr, error) {
	out := path{first}
	for p.take(".") {
		t := p.next()
		if t.kind != word && t.kind != text {
			return nil, fmt.Errorf("%q where a field is expected", t.value)
		}
		out = append(out, t.value)
	}
	return out, nil
}

func (p *parser) call(name string) (expr, error) {
	f, ok := functions()[strings.ToLower(name)]
	if !ok {
		return nil, fmt.Errorf("the function %s is not known to the emulator", name)
	}
	var args []expr
	for !p.take(")") {
		if len(args) > 0 {
			if err := p.want(","); err != nil {
				return nil, err
			}
		}
		e, err := p.or()
		if err != nil {
			return nil, err
		}
		args = append(args, e)
	}
	if len(args) < f.min || len(args) > f.max {
		return nil, fmt.Errorf("the function %s does not take %d arguments", name, len(args))
	}
	return call{f, args}, nil
}
