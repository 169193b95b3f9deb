//go:build check && linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"
)

// TestPeakMemory loads and runs whole models in the real program. It may take
// the weights as float32 and 15 % of them, and 12 MB for itself. Small models are
// near that, and when the collector runs is chance on a busy machine: the least of
// some runs counts.
func TestPeakMemory(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "starling")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is released
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"alexnet", "vgg16", "resnet50", "inception_v3", "mobilenet_v2", "squeezenet1.1"} {
		t.Run(name, func(t *testing.T) {
			model := filepath.Join(t.TempDir(), name+".onnx")
			if out, err := exec.Command(bin, "zoo", name, "-o", model).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			info, err := os.Stat(model)
			if err != nil {
				t.Fatal(err)
			}
			checkPeak(t, bin, model, info.Size()) // but for some names
		})
	}
	for name, weights := range map[string]int64{"inception_v3_5class_dq": 89.5e6, "mobilenet_v1_1.0_224_dq": 16.9e6, "mobilenet_v2_1.0_224_dq": 14e6} {
		t.Run(name, func(t *testing.T) {
			model := filepath.Join(os.Getenv("STARLING_MODELS"), name+".onnx")
			if _, err := os.Stat(model); err != nil {
				t.Skipf("no %s: set STARLING_MODELS to the folder of large models", model)
			}
			checkPeak(t, bin, model, weights)
		})
	}
}

func checkPeak(t *testing.T, bin, model string, weights int64) {
	t.Helper()
	limit := weights*115/100 + 12e6
	commands := [][]string{{"run", model, "--workers", "0", "--requests", "10"}}
	if limit > 100e6 { // it reads as much as 64 MiB to measure the memory itself
		commands = append(commands, []string{"bench", "engine", model, "--requests", "10"})
	}
	for _, args := range commands {
		var least int64
		for range 10 {
			shrink(t)
			cmd := exec.Command(bin, args...)
			cmd.Env = append(os.Environ(), "GOGC=") // as people run it
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
			peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss * 1024
			if least == 0 || peak < least {
				least = peak
			}
			if least <= limit {
				break
			}
		}
		t.Logf("%s: %.1f MB of weights, peak %.1f MB, limit %.1f", args[0], float64(weights)/1e6, float64(least)/1e6, float64(limit)/1e6)
		if least > limit {
			t.Errorf("%s takes more", args[0])
		}
	}
}

// shrink makes this process small: Linux counts the most that it had in memory as a
// child's, too.
func shrink(t *testing.T) {
	t.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // see proc(5)
		t.Fatal(err)
	}
}
