//go:build check

package flock_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/plan"
)

// TestMixedFlock splits the digit network over workers for arm64, under
// emulation: the answers have the bits of a run on this machine alone.
func TestMixedFlock(t *testing.T) {
	emulator, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Skip("no program qemu-aarch64-static")
	}
	program := filepath.Join(t.TempDir(), "starling-arm64")
	build := exec.Command("go", "build", "-o", program, "starling/cmd/starling")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const n = 40
	answers := func(workers int) (all [][]float32) {
		f, err := flock.Start(t.Context(), digitModel(t), flock.Config{
			Plan: plan.Options{Data: workers}, StateDir: t.TempDir(), Command: []string{emulator, program, "worker"},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for i := range n {
			inputs, err := digitInput(i)
			if err != nil {
				t.Fatal(err)
			}
			var a coordinator.Answer
			var lost *coordinator.LostError
			err = f.Infer(t.Context(), inputs, &a)
			for tries := 0; errors.As(err, &lost) && tries < 20; tries++ {
				// On a busy machine an emulated worker may be silent too long.
				if err = f.WaitReady(t.Context()); err == nil {
					err = f.Infer(t.Context(), inputs, &a)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, a.Outputs[0].F32())
		}
		return all
	}
	here, there := answers(0), answers(3)
	for i := range here {
		for c := range here[i] {
			if here[i][c] != there[i][c] {
				t.Fatalf("digit %d, class %d: %v here, %v over arm64 workers", i, c, here[i][c], there[i][c])
			}
		}
	}
}
