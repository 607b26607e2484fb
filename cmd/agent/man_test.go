package main

import (
	"flag"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/mantest"
)

var updateMan = flag.Bool("update-man", false, "write the manual pages")

func TestManualPages(t *testing.T) { mantest.Check(t, newRoot(), *updateMan) }
