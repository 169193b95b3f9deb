//go:build check

package conformance_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/manifest.txt")

const manifestFile = "testdata/manifest.txt"

const manifestHead = `# What becomes of each test case of ONNX 1.23.2; go test -tags check -update rewrites it.
#   CASE pass
#   CASE pass with VALUES: the values, which shapes depend on, are fixed when the model is loaded
#   CASE inexact: WHERE it is outside the tolerance by rounding alone
#   CASE not supported: WHY, which is the error's text
`

// readManifest returns the outcome of each case that the manifest lists.
func readManifest(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(manifestFile)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, outcome, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			list[name] = outcome
		}
	}
	return list
}

func writeManifest(t *testing.T, list map[string]string) {
	t.Helper()
	var b strings.Builder
	b.WriteString(manifestHead)
	for _, name := range slices.Sorted(maps.Keys(list)) {
		fmt.Fprintf(&b, "%s %s\n", name, list[name])
	}
	if err := os.WriteFile(manifestFile, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// cases lists KIND/NAME of all test cases under dir.
func cases(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range paths {
		name, err := filepath.Rel(dir, filepath.Dir(p))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, filepath.ToSlash(name))
	}
	return names
}

// share counts passed cases.
type share struct{ passed, all int }

func (s *share) add(outcome string) {
	s.all++
	if strings.HasPrefix(outcome, "pass") {
		s.passed++
	}
}

func (s share) percent() float64 { return 100 * float64(s.passed) / float64(s.all) }

func (s share) String() string {
	return fmt.Sprintf("%d of %d (%.1f %%)", s.passed, s.all, s.percent())
}

func TestCasesOfONNX(t *testing.T) {
	dir := os.Getenv("STARLING_ONNX_CASES")
	if dir == "" {
		t.Skip("STARLING_ONNX_CASES is not set to a folder that tools/check/onnx-cases.py has filled")
	}
	names := cases(t, dir)
	want := map[string]string{}
	if !*update {
		want = readManifest(t)
	}
	got := map[string]string{}
	counts := map[string]*share{"numeric node": {}, "node": {}, "pytorch-converted": {}, "pytorch-operator": {}}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			outcome, numeric := run(t, filepath.Join(dir, filepath.FromSlash(name)))
			kind, _, _ := strings.Cut(name, "/")
			counts[kind].add(outcome)
			if kind == "node" && numeric {
				counts["numeric node"].add(outcome)
			}
			got[name] = outcome
			if !*update && outcome != want[name] {
				t.Errorf("outcome %q, the manifest has %q", outcome, want[name])
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is in the manifest and not among the cases", name)
		}
	}
	if *update {
		writeManifest(t, got)
	}
	for _, floor := range []struct {
		kind    string
		percent float64
	}{{"node", 0}, {"numeric node", 85}, {"pytorch-converted", 90}, {"pytorch-operator", 90}} {
		t.Logf("%s: %v pass", floor.kind, counts[floor.kind])
		if got := counts[floor.kind].percent(); got < floor.percent {
			t.Errorf("%.1f %% of %s cases pass, want %g", got, floor.kind, floor.percent)
		}
	}
}
