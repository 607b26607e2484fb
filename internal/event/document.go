package event

import (
	"fmt"
	"regexp"
	"strings"
)

//go:generate go test -run TestGenerated -update

// journalFields are the fields of a sentence that a journal entry carries too,
// so that the catalog can show them.
var journalFields = map[string]string{
	CertificateID: "JITR_CERTIFICATE_ID",
	CACertificate: "JITR_CA_CERTIFICATE_ID",
	Thing:         "JITR_THING",
	Endpoint:      "JITR_ENDPOINT",
}

var field = regexp.MustCompile(`\{([a-z_]+)\}`)

// forCatalog puts the journal's notation for the fields, and dots where it has
// none.
func forCatalog(s string) string {
	return field.ReplaceAllStringFunc(s, func(f string) string {
		if name := journalFields[strings.Trim(f, "{}")]; name != "" {
			return "@" + name + "@"
		}
		return "…"
	})
}

// subject is the beginning of the sentence, which names the matter; the rest
// is in the entry itself.
func subject(e Event) string {
	s := e.Sentence
	for _, end := range []string{": ", "; ", " ("} {
		s, _, _ = strings.Cut(s, end)
	}
	return forCatalog(s)
}

// Catalog is the table as a journal message catalog (journalctl --catalog).
func Catalog() string {
	var b strings.Builder
	b.WriteString("# generated from internal/event by go generate; do not edit\n")
	for _, e := range table {
		fmt.Fprintf(&b, "\n-- %s\nSubject: %s\nDefined-By: jitr-agent\nDocumentation: man:jitr-agent(1)\n\n%s\n", e.MessageID, subject(e), e.Meaning)
		switch {
		case e.Remedy != "":
			fmt.Fprintf(&b, "\nWhat to do: %s.\n", forCatalog(e.Remedy))
		case e.LateRemedy != "":
			fmt.Fprintf(&b, "\nWhat to do: nothing in the first %s. Then: %s.\n", late(e), forCatalog(e.LateRemedy))
		default:
			b.WriteString("\nWhat to do: nothing.\n")
		}
	}
	return b.String()
}

func late(e Event) string { return fmt.Sprintf("%d minutes", int(e.WarnAfter.Minutes())) }

// Page is the table as docs/events.md.
func Page() string {
	var b strings.Builder
	b.WriteString(`<!-- generated from internal/event by go generate; do not edit -->
# Events

Everything the agent says at info or above is a row of this table. In the journal each entry carries the row's
` + "`MESSAGE_ID`" + ` and its name as ` + "`JITR_EVENT`" + `, and, where they apply, ` + "`JITR_STATE`, `JITR_PREVIOUS_STATE`, `JITR_CAUSE`, `JITR_PHASE`,\n" +
		"`JITR_ATTEMPT`, `JITR_NEXT_RETRY_MS`, `JITR_THING`, `JITR_CERTIFICATE_ID`, `JITR_CA_CERTIFICATE_ID` and `JITR_ENDPOINT`" + `. There is
one line for each change and each step of a schedule, never one for each attempt.

` + "```" + `
journalctl -t jitr-agent JITR_EVENT=pending     # all entries of one kind
journalctl -x -t jitr-agent                     # with what each means and what to do
` + "```" + `
`)
	for _, e := range table {
		fmt.Fprintf(&b, "\n## %s\n\n> %s\n\n%s\n\n", e.ID, shown(e.Sentence), e.Meaning)
		level := e.Level.String()
		if e.WarnAfter > 0 && e.Level == Info {
			level += ", warning after " + late(e)
		}
		fmt.Fprintf(&b, "- Level: %s\n- MESSAGE_ID: `%s`\n", level, e.MessageID)
		if e.Remedy != "" {
			fmt.Fprintf(&b, "- What to do: %s\n", shown(e.Remedy))
		}
		if e.LateRemedy != "" {
			fmt.Fprintf(&b, "- What to do after %s: %s\n", late(e), shown(e.LateRemedy))
		}
	}
	return b.String()
}

// shown has the fields as placeholders that Markdown leaves alone.
func shown(s string) string { return field.ReplaceAllString(s, "`$1`") }
