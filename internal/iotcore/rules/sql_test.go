package rules

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const event = `{"certificateId":"c1","timestamp":1577248409400,"certificateStatus":"PENDING_ACTIVATION","certificateRegistrationTimestamp":null,"nested":{"a":{"b":2}},"list":[1]}`

func TestSelect(t *testing.T) {
	m := Message{Topic: "init/gw-1/x", Payload: []byte(event), ClientID: "gw-1", Principal: "c1"}
	tests := []struct {
		sql  string
		want string // "" where WHERE says no
	}{
		{`SELECT * FROM 'a' WHERE certificateStatus = 'PENDING_ACTIVATION'`, event},
		{`select * from 'a' where certificateStatus <> 'PENDING_ACTIVATION'`, ""},
		{`SELECT * FROM 'a'`, event},
		{`SELECT certificateId, nested.a.b AS deep, nothing FROM 'a'`, `{"certificateId":"c1","deep":2}`},
		{`SELECT clientid() AS client, principal() as certificate, topic(2) AS thing, topic() AS topic, accountid() AS account FROM 'a'`,
			`{"client":"gw-1","certificate":"c1","thing":"gw-1","topic":"init/gw-1/x","account":"123"}`},
		{`SELECT list, principal() FROM 'a'`, `{"list":[1],"principal":"c1"}`},
		{`SELECT *, clientid() AS nested FROM 'a' WHERE certificateId = principal()`,
			strings.Replace(event, `{"a":{"b":2}}`, `"gw-1"`, 1)},
		{`SELECT 1 + 2 * 3 AS n, 'it''s' AS s, -4 AS m, "x" AS q FROM 'a'`, `{"n":7,"s":"it's","m":-4,"q":"x"}`},
		{`SELECT 7 / 2 AS q, 7 % 2 AS r, 1 / 0 AS none, 'a' + 1 AS s FROM 'a'`, `{"q":3.5,"r":1,"s":"a1"}`},
		{`SELECT * FROM 'a' WHERE nothing = 'x'`, ""},
		{`SELECT * FROM 'a' WHERE nothing <> 'x'`, ""}, // undefined is not unequal
		{`SELECT * FROM 'a' WHERE NOT nothing = 'x'`, ""},
		{`SELECT * FROM 'a' WHERE isUndefined(nothing)`, event},
		{`SELECT * FROM 'a' WHERE isNull(certificateRegistrationTimestamp) AND certificateRegistrationTimestamp = null`, event},
		{`SELECT * FROM 'a' WHERE nothing = 1 OR timestamp > 1000`, ""}, // undefined is no boolean
		{`SELECT * FROM 'a' WHERE certificateId = 'x' OR timestamp > 1000`, event},
		{`SELECT * FROM 'a' WHERE timestamp > 1000 AND nothing = 1`, ""},
		{`SELECT * FROM 'a' WHERE NOT (timestamp <= 1000) AND NOT NOT true`, event},
		{`SELECT * FROM 'a' WHERE certificateId = 1`, ""},
		{`SELECT * FROM 'a' WHERE startswith(topic(), 'init/') AND endswith(topic(), 'x') AND length(clientid()) = 4`, event},
		{`SELECT upper(clientid()) AS u, lower('ABC') AS l, concat('a', 1, true) AS c, topic(9) AS none FROM 'a'`, `{"u":"GW-1","l":"abc","c":"a1true"}`},
		{`SELECT * FROM 'a' WHERE true = false OR nested.a.b = 2`, event},
	}
	for _, tt := range tests {
		st, err := parse(tt.sql)
		if err != nil {
			t.Errorf("%s: %v", tt.sql, err)
			continue
		}
		out, ok := st.selects(m, "123")
		if !ok {
			if tt.want != "" {
				t.Errorf("%s: WHERE said no", tt.sql)
			}
			continue
		}
		var got, want any
		if json.Unmarshal(out, &got) != nil || json.Unmarshal([]byte(tt.want), &want) != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s, want %s", tt.sql, out, tt.want)
		}
	}
}

func TestSelectWithoutJSON(t *testing.T) {
	st, err := parse(`SELECT * FROM 'a'`)
	if err != nil {
		t.Fatal(err)
	}
	if out, ok := st.selects(Message{Payload: []byte{0xff}}, ""); !ok || string(out) != "\xff" {
		t.Errorf("a payload that is no JSON became %q, %t", out, ok)
	}
	if st, err = parse(`SELECT clientid() AS c, principal() AS p FROM 'a'`); err != nil {
		t.Fatal(err)
	}
	if out, ok := st.selects(Message{Payload: []byte("x")}, ""); !ok || string(out) != `{"c":"N/A"}` {
		t.Errorf("without a client: %s, %t", out, ok)
	}
}

func TestParseErrors(t *testing.T) {
	for sql, want := range map[string]string{
		``:                                   `"SELECT" is expected`,
		`SELECT * FROM a`:                    "topic filter in quotes",
		`SELECT * FROM 'a`:                   "has no end",
		`SELECT FROM 'a'`:                    `"FROM" is not known`,
		`SELECT * FROM 'a' x`:                `unexpected "x"`,
		`SELECT aws_lambda('f', 1) FROM 'a'`: "aws_lambda is not known to the emulator",
		`SELECT topic(1, 2) FROM 'a'`:        "does not take 2 arguments",
		`SELECT CASE a WHEN 1 THEN 2 END FROM 'a'`:             `"CASE" is not known`,
		`SELECT * FROM 'a' WHERE a IN [1]`:                     `unexpected "IN"`,
		`SELECT * FROM 'a' WHERE (a = 1`:                       `")" is expected`,
		`SELECT VALUE a FROM 'a'`:                              "SELECT VALUE is not known",
		`SELECT a; FROM 'a'`:                                   `unexpected ';'`,
		`SELECT * FROM 'a' WHERE ` + strings.Repeat("(", 1000): "nested too deeply",
	} {
		if _, err := parse(sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: error %v, want %q in it", sql, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`SELECT *, a.b AS c, topic(1) FROM 'x/#' WHERE NOT (a = 'b') AND 1 < 2 OR isNull(c)`, event)
	f.Fuzz(func(t *testing.T, sql, payload string) {
		st, err := parse(sql)
		if err != nil {
			return
		}
		if out, ok := st.selects(Message{Topic: "x/y", Payload: []byte(payload)}, "1"); ok && !st.all && !json.Valid(out) {
			t.Errorf("%s gave %q", sql, out)
		}
	})
}
