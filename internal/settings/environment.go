package settings

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	envPrefix = "JITR_AGENT_"
	envPath   = "environment" // Problem.Path of a variable
)

// loadEnvironment sets what the variables with our prefix say. Where one is
// given twice the last wins, as for a process that is started with it.
func loadEnvironment(s *Settings, environ []string) ([]Override, []Problem) {
	given := map[string]string{}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, envPrefix) {
			given[name] = value
		}
	}

	var overrides []Override
	var problems []Problem
	fail := func(name, message string) {
		problems = append(problems, Problem{Path: envPath, Message: name + ": " + message})
	}
	var known []string
	for _, f := range s.fields() {
		name := f.env()
		known = append(known, name)
		value, ok := given[name]
		if !ok {
			continue
		}
		delete(given, name)
		if err := f.setText(value); err != nil {
			fail(name, err.Error())
			continue
		}
		overrides = append(overrides, Override{Key: f.name(), Value: f.text(), From: FromEnvironment})
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		fail(name, fmt.Sprintf("there is no such setting%s", didYouMean(name, known)))
	}
	return overrides, problems
}
