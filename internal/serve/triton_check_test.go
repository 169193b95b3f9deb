//go:build check

package serve

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"starling/internal/flock"
)

// TestTriton has Triton's client library ask in every way it has; each answer has
// the bits of a run without a server.
func TestTriton(t *testing.T) {
	python := os.Getenv("STARLING_OIP_PYTHON")
	if python == "" {
		t.Skip("STARLING_OIP_PYTHON is not set: a Python with the package tritonclient[http,grpc]; make check sets it")
	}
	m := digitModel(t, flock.Config{})
	r := run(t, Config{}, m)
	path := filepath.Join(t.TempDir(), "digit")
	if err := os.WriteFile(path, digit(5).Data, 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(python, "../../tools/check/oip.py", strings.TrimPrefix(r.rest, "http://"), r.rpc, "digits", "input", "logits", path).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	if err != nil || len(lines) != 5 {
		t.Fatalf("%v: %s", err, said)
	}
	want := local(t, m, 5).F32()
	for _, line := range lines {
		values := strings.Fields(line)
		if len(values) != len(want) {
			t.Fatalf("%d values, want %d", len(values), len(want))
		}
		for i, v := range values {
			if got, err := strconv.ParseFloat(v, 64); err != nil || float32(got) != want[i] {
				t.Errorf("logit %d is %s, want %v", i, v, want[i])
			}
		}
	}
}
