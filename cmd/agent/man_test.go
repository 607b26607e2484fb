package main

import (
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/mantest"
)

func TestManualPages(t *testing.T) { mantest.Check(t, newRoot()) }
