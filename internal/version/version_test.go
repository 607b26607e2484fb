package version

import (
	"regexp"
	"runtime/debug"
	"testing"
	"time"
)

func TestResolve(t *testing.T) {
	vcs := &debug.BuildInfo{
		Main: debug.Module{Version: "v0.3.0"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"},
			{Key: "vcs.time", Value: "2026-02-03T04:05:06Z"},
		},
	}
	committed := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

	for name, tt := range map[string]struct {
		number, commit, epoch string
		info                  *debug.BuildInfo
		want                  build
	}{
		"nothing known":          {want: build{"devel", "unknown", time.Time{}}},
		"go build in a tree":     {info: vcs, want: build{"v0.3.0", "0123456789ab", committed}},
		"the linker's stamp":     {number: "v1.0.0", commit: "feed", epoch: "1700000000", info: vcs, want: build{"v1.0.0", "feed", time.Unix(1700000000, 0).UTC()}},
		"stamp without VCS":      {number: "v1.0.0", commit: "feed", epoch: "1700000000", want: build{"v1.0.0", "feed", time.Unix(1700000000, 0).UTC()}},
		"time past 2038":         {epoch: "4102444800", want: build{"devel", "unknown", time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"empty epoch":            {number: "v1.0.0", info: vcs, want: build{"v1.0.0", "0123456789ab", committed}},
		"go test says (devel)":   {info: &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, want: build{"devel", "unknown", time.Time{}}},
		"time that is no number": {epoch: "yesterday", want: build{"devel", "unknown", time.Time{}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := resolve(tt.number, tt.commit, tt.epoch, tt.info)
			if got.number != tt.want.number || got.commit != tt.want.commit || !got.time.Equal(tt.want.time) {
				t.Errorf("resolve = %+v, want %+v", got, tt.want)
			}
		})
	}
}

// Scripts cut this line at its blanks.
func TestStringIsFiveWords(t *testing.T) {
	line := regexp.MustCompile(`^jitr-agent \S+ linux/\S+ go1\.\S+ \S+$`)
	if got := String("jitr-agent"); !line.MatchString(got) {
		t.Errorf("String = %q, want %s", got, line)
	}
}
