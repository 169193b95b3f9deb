package experiment_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
// digit is read right, before and after; without, all is lost from the fault on.
func TestDemo(t *testing.T) {
	var out strings.Builder
	if err := experiment.Demo(t.Context(), &out, command); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	// The worker may have answered for the request in which it is struck.
	rows := []struct{ name, want string }{
		{"one process, no workers", `800 +800 +0 +0 +400/400 +400/400 +[0-9.]+ +[0-9.]+ +[0-9.]+`},
		{"4+1, nothing happens", `800 +800 +0 +[0-9]+ +400/400 +400/400 +[0-9.]+ +[0-9.]+ +[0-9.]+`},
		{"4+1, w2 killed", `800 +800 +0 +[0-9]{4} +400/400 +400/400 +[0-9.]+ +[0-9.]+ +[0-9.]+`},
		{"4+1, w3 stopped", `800 +800 +0 +[0-9]{4} +400/400 +400/400 +[0-9.]+ +[0-9.]+ +[0-9.]+`},
		{"4 without parity, w2 killed", `800 +(400 +400 +0 +400/400 +none +[0-9.]+ +none|401 +399 +0 +400/400 +1/1 +[0-9.]+ +[0-9.]+) +[0-9.]+`},
		{"4 without parity, w3 stopped", `800 +(400 +400 +0 +400/400 +none +[0-9.]+ +none|401 +399 +0 +400/400 +1/1 +[0-9.]+ +[0-9.]+) +[0-9.]+`},
	}
	for _, row := range rows {
		line := regexp.MustCompile(`(?m)^ *` + regexp.QuoteMeta(row.name) + ` +` + row.want + ` *$`)
		if !line.MatchString(out.String()) {
			t.Errorf("no row %q matches %s", row.name, row.want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
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
