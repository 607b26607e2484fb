package rules

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// Message is a message that rules look at.
type Message struct {
	Topic     string
	Payload   []byte
	ClientID  string // "" for N/A
	Principal string // the certificateId of a device's connection
}

// scope is what an expression is evaluated in.
type scope struct {
	message Message
	payload any // decoded; nil and no JSON: undefined fields
	account string
}

// undefined is the value of what is not there (AWS IoT SQL reference). It is
// neither null nor equal to anything.
type undefined struct{}

// expr gives nil, bool, float64, string, []any, map[string]any or undefined.
type expr interface{ eval(scope) any }

type literal struct{ value any }

func (l literal) eval(scope) any { return l.value }

type path []string

func (p path) eval(s scope) any {
	at := s.payload
	for _, name := range p {
		object, ok := at.(map[string]any)
		if !ok {
			return undefined{}
		}
		if at, ok = object[name]; !ok {
			return undefined{}
		}
	}
	return at
}

type negation struct{ of expr }

func (n negation) eval(s scope) any {
	if b, ok := n.of.eval(s).(bool); ok {
		return !b
	}
	return undefined{}
}

type binary struct {
	op          string
	left, right expr
}

func (b binary) eval(s scope) any {
	x := b.left.eval(s)
	y := b.right.eval(s)
	switch b.op {
	case "AND", "OR": // of booleans only (AWS IoT SQL reference, operators)
		xb, xok := x.(bool)
		yb, yok := y.(bool)
		if !xok || !yok {
			return undefined{}
		}
		if b.op == "AND" {
			return xb && yb
		}
		return xb || yb
	case "+", "-", "*", "/", "%":
		return arithmetic(b.op, x, y)
	}
	return compare(b.op, x, y)
}

func arithmetic(op string, x, y any) any {
	_, xIsText := x.(string)
	_, yIsText := y.(string)
	if op == "+" && (xIsText || yIsText) {
		xs, xok := asText(x)
		ys, yok := asText(y)
		if xok && yok {
			return xs + ys
		}
		return undefined{}
	}
	a, aok := x.(float64)
	b, bok := y.(float64)
	if !aok || !bok {
		return undefined{}
	}
	switch op {
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	}
	if b == 0 {
		return undefined{}
	}
	if op == "/" {
		return a / b
	}
	return math.Mod(a, b)
}

func asText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

func compare(op string, x, y any) any {
	if _, ok := x.(undefined); ok {
		return undefined{}
	}
	if _, ok := y.(undefined); ok {
		return undefined{}
	}
	order, known := 0, false
	switch a := x.(type) {
	case string:
		if b, ok := y.(string); ok {
			order, known = strings.Compare(a, b), true
		}
	case float64:
		if b, ok := y.(float64); ok {
			order, known = cmp.Compare(a, b), true
		}
	case bool:
		if b, ok := y.(bool); ok && a == b {
			known = true
		} else if ok {
			order, known = 1, op == "=" || op == "<>" || op == "!="
		}
	case nil:
		if y == nil {
			known = true
		}
	}
	switch op {
	case "=":
		return known && order == 0
	case "<>", "!=":
		return !known || order != 0
	}
	if !known {
		return undefined{}
	}
	switch op {
	case "<":
		return order < 0
	case ">":
		return order > 0
	case "<=":
		return order <= 0
	default:
		return order >= 0
	}
}

type function struct {
	min, max int
	do       func(s scope, args []any) any
}

type call struct {
	function
	args []expr
}

func (c call) eval(s scope) any {
	args := make([]any, 0, len(c.args))
	for _, a := range c.args {
		args = append(args, a.eval(s))
	}
	return c.do(s, args)
}

// functions of the SQL reference that the emulator knows.
func functions() map[string]function {
	onText := func(n int, f func(args []string) any) function {
		return function{n, n, func(_ scope, args []any) any {
			var texts []string
			for _, a := range args {
				s, ok := a.(string)
				if !ok {
					return undefined{}
				}
				texts = append(texts, s)
			}
			return f(texts)
		}}
	}
	return map[string]function{
		"topic": {0, 1, func(s scope, args []any) any {
			if len(args) == 0 {
				return s.message.Topic
			}
			n, ok := args[0].(float64)
			parts := strings.Split(s.message.Topic, "/")
			if !ok || n < 1 || int(n) > len(parts) {
				return undefined{}
			}
			return parts[int(n)-1]
		}},
		"clientid": {0, 0, func(s scope, _ []any) any { return cmp.Or(s.message.ClientID, "N/A") }},
		"principal": {0, 0, func(s scope, _ []any) any {
			if s.message.Principal == "" {
				return undefined{}
			}
			return s.message.Principal
		}},
		"accountid": {0, 0, func(s scope, _ []any) any { return s.account }},
		"timestamp": {0, 0, func(scope, []any) any { return float64(time.Now().UnixMilli()) }},
		"newuuid":   {0, 0, func(scope, []any) any { return awsapi.NewID() }},
		"traceid":   {0, 0, func(scope, []any) any { return awsapi.NewID() }},
		"isnull":    {1, 1, func(_ scope, args []any) any { return args[0] == nil }},
		"isundefined": {1, 1, func(_ scope, args []any) any {
			_, is := args[0].(undefined)
			return is
		}},
		"upper":      onText(1, func(a []string) any { return strings.ToUpper(a[0]) }),
		"lower":      onText(1, func(a []string) any { return strings.ToLower(a[0]) }),
		"length":     onText(1, func(a []string) any { return float64(len([]rune(a[0]))) }),
		"startswith": onText(2, func(a []string) any { return strings.HasPrefix(a[0], a[1]) }),
		"endswith":   onText(2, func(a []string) any { return strings.HasSuffix(a[0], a[1]) }),
		"concat": {1, 16, func(_ scope, args []any) any {
			var b strings.Builder
			for _, a := range args {
				s, ok := asText(a)
				if !ok {
					return undefined{}
				}
				b.WriteString(s)
			}
			return b.String()
		}},
	}
}

// selects says whether a message passes WHERE, and gives what SELECT makes of
// it. A payload that is no JSON passes through SELECT * as it is.
func (st *statement) selects(m Message, account string) (out []byte, ok bool) {
	s := scope{message: m, account: account}
	isJSON := json.Unmarshal(m.Payload, &s.payload) == nil
	if st.where != nil && st.where.eval(s) != true {
		return nil, false
	}
	if st.all && len(st.cols) == 0 {
		return m.Payload, true
	}
	object := map[string]any{}
	if st.all && isJSON {
		if fields, is := s.payload.(map[string]any); is {
			maps.Copy(object, fields)
		}
	}
	for _, c := range st.cols {
		v := c.expr.eval(s)
		if _, is := v.(undefined); !is {
			object[c.name] = v
		}
	}
	data, err := json.Marshal(object)
	return data, err == nil
}
