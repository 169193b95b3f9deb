//go:build check && linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestPeakMemory loads and runs whole models in the real program. It may take
// the weights and 15 % of them, and 12 MB for itself. Of these the program's own
// pages are 6 and the runtime's 4, so that smaller models, whose activations weigh
// more than 15 % of their weights, are not among them: see docs/benchmarks.md.
func TestPeakMemory(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "starling")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is released
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"alexnet", "vgg16", "resnet50", "inception_v3"} {
		t.Run(name, func(t *testing.T) {
			model := filepath.Join(t.TempDir(), name+".onnx")
			if out, err := exec.Command(bin, "zoo", name, "-o", model).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			info, err := os.Stat(model)
			if err != nil {
				t.Fatal(err)
			}
			weights := info.Size() // but for some names
			limit := weights*115/100 + 12e6
			for _, args := range [][]string{
				{"run", model, "--workers", "0", "--requests", "10"},
				{"bench", "engine", model, "--requests", "10"},
			} {
				cmd := exec.Command(bin, args...)
				cmd.Env = append(os.Environ(), "GOGC=") // as people run it
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
				// Linux counts what this process takes, too: keep it small.
				peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss * 1024
				t.Logf("%s: %.1f MB of weights, peak %.1f MB, limit %.1f", args[0], float64(weights)/1e6, float64(peak)/1e6, float64(limit)/1e6)
				if peak > limit {
					t.Errorf("%s takes more", args[0])
				}
			}
		})
	}
}
