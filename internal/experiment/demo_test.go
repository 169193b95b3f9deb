package experiment_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"starling/internal/experiment"
)

// command starts a worker: the real program, built for these tests.
var command []string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "experiment-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "starling")
	if out, err := exec.Command("go", "build", "-o", program, "starling/cmd/starling").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the worker: %v\n%s", err, out)
		return 1
	}
	command = []string{program, "worker"}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// TestDemo runs what make demo runs: with parity nothing is lost and every
// digit is read right, before and after; without, requests are lost after the
// fault, and those answered are right. On a busy machine they may be lost before
// too: a worker that gets no processor for 400 ms counts as gone until it dials
// again, and nothing stands in for it.
func TestDemo(t *testing.T) {
	var out strings.Builder
	if err := experiment.Demo(t.Context(), &out, command); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, row := range []struct {
		name              string
		decoded, someLost bool
	}{
		{"one process, no workers", false, false},
		{"4+1, nothing happens", false, false},
		{"4+1, w2 killed", true, false},
		{"4+1, w3 stopped", true, false},
		{"4 without parity, w2 killed", false, true},
		{"4 without parity, w3 stopped", false, true},
	} {
		// requests, answered, lost, decoded, right before and after; then times
		line := regexp.MustCompile(`(?m)^ *` + regexp.QuoteMeta(row.name) + ` +800 +(\d+) +(\d+) +(\d+) +(\d+)/(\d+) +(none|\d+/\d+) `)
		m := line.FindStringSubmatch(out.String())
		if m == nil {
			t.Errorf("no row %q matches %v", row.name, line)
			continue
		}
		answered, lost, decoded := number(t, m[1]), number(t, m[2]), number(t, m[3])
		right, before := number(t, m[4]), number(t, m[5])
		// How many answers came after the fault struck is a matter of chance.
		after := fmt.Sprintf("%d/%d", answered-before, answered-before)
		if answered == before {
			after = "none"
		}
		if answered+lost != 800 || right != before || before != 400 && !row.someLost || m[6] != after {
			t.Errorf("%s: %d answered, %d lost, %d of %d right before the fault, %s after it", row.name, answered, lost, right, before, m[6])
		}
		if (lost > 0) != row.someLost || row.decoded && decoded == 0 {
			t.Errorf("%s: %d lost, %d decoded", row.name, lost, decoded)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDemoEnds: a demo that is interrupted ends with the reason, one that
// cannot start says which run.
func TestDemoEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := experiment.Demo(ctx, new(strings.Builder), command); !errors.Is(err, enough) {
		t.Errorf("an ended context gives %v", err)
	}
	err := experiment.Demo(t.Context(), new(strings.Builder), []string{"/nowhere/starling"})
	if err == nil || !strings.HasPrefix(err.Error(), "4+1, nothing happens: start worker w1: ") {
		t.Errorf("a program that is not there gives %v", err)
	}
}
