package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"starling/internal/coordinator"
	"starling/internal/digits"
	"starling/internal/flock"
	"starling/internal/onnx"
	"starling/internal/tensor"
)

// TestServe floods a server of the digit model with more than it lets in and lets
// wait, while one of its workers is killed: each request is answered, right, or
// told when to come again, and in the end all are answered.
func TestServe(t *testing.T) {
	state := t.TempDir()
	cmd := exec.Command("starling", "serve", "digits=../../internal/digits/digits.onnx", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--state", state,
		"--concurrency", "2", "--waiting", "2", "--emulate-speed", "0.2", "--fault", "kill:w2@20")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	said := regexp.MustCompile(`^(http://127\.0\.0\.1:\d+/v2/models/digits)  5 layers split over 4\+1 workers\n$`).FindStringSubmatch(line)
	if said == nil {
		t.Fatalf("said %q (%v)", line, err)
	}
	const clients, each = 16, 10
	want := localAnswers(t, clients*each)
	var all sync.WaitGroup
	var refused, decoded atomic.Int64
	for c := range clients {
		all.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			limit := time.After(patience)
			for i := c; i < len(want); i += clients {
				got, header, again := askDigit(t, said[1], i)
				for again {
					refused.Add(1)
					select {
					case <-tick.C: // sooner than it is told to
					case <-limit:
						t.Errorf("client %d: not let in within %v", c, patience)
						return
					}
					got, header, again = askDigit(t, said[1], i)
				}
				// What parity gives is rounded in another way.
				if header != "" {
					decoded.Add(1)
					if got != nil && classOf(got) == classOf(want[i]) {
						continue
					}
				}
				if !slices.Equal(got, want[i]) {
					t.Errorf("request %d (decoded %q): %v, want %v", i, header, got, want[i])
				}
			}
		})
	}
	all.Wait()
	if refused.Load() == 0 || decoded.Load() == 0 {
		t.Errorf("%d times refused, %d answers decoded: want some of both", refused.Load(), decoded.Load())
	}
	http.DefaultClient.CloseIdleConnections()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v: %s", err, stderr.String())
	}
	if left := workersOf(t, state); len(left) > 0 {
		t.Errorf("%d workers are left", len(left))
	}
	if entries, err := os.ReadDir(state); err != nil || len(entries) > 0 {
		t.Errorf("the state folder holds %v (%v)", entries, err)
	}
}

// askDigit asks a server for digit i's logits: those of a decoded answer with the
// header that says so, or nothing if it is to come again.
func askDigit(t *testing.T, url string, i int) (logits []float32, decoded string, again bool) {
	t.Helper()
	var q struct {
		Inputs [1]struct {
			Name     string    `json:"name"`
			Datatype string    `json:"datatype"`
			Shape    []int     `json:"shape"`
			Data     []float32 `json:"data"`
		} `json:"inputs"`
	}
	x := digitAt(i)
	in := &q.Inputs[0]
	in.Name, in.Datatype, in.Shape, in.Data = "input", "FP32", x.Shape, x.F32()
	body, err := json.Marshal(q)
	if err != nil {
		t.Error(err)
		return nil, "", false
	}
	r, err := http.Post(url+"/infer", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return nil, "", false
	}
	defer r.Body.Close()
	var a struct {
		Error   string
		Outputs []struct{ Data []float32 }
	}
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		t.Errorf("request %d: %v", i, err)
		return nil, "", false
	}
	switch {
	case r.StatusCode == http.StatusServiceUnavailable && regexp.MustCompile(`^[1-9]\d*$`).MatchString(r.Header.Get("Retry-After")):
		return nil, "", true
	case r.StatusCode != http.StatusOK || len(a.Outputs) != 1:
		t.Errorf("request %d: %s %s", i, r.Status, a.Error)
		return nil, "", false
	}
	if decoded = r.Header.Get("Starling-Decoded"); decoded != "" && !regexp.MustCompile(`^[^ :,]+:\d@w\d(, [^ :,]+:\d@w\d)*$`).MatchString(decoded) {
		t.Errorf("Starling-Decoded: %s", decoded)
	}
	return a.Outputs[0].Data, decoded, false
}

func digitAt(i int) *tensor.Tensor {
	const size = digits.Rows * digits.Cols
	x := tensor.New(tensor.Float32, 1, 1, digits.Rows, digits.Cols)
	for p, v := range digitPixels()[i%digits.Count*size:][:size] {
		x.F32()[p] = float32(v) / 255
	}
	return x
}

var digitPixels = sync.OnceValue(digits.Images)

// localAnswers are what n digits give without workers.
func localAnswers(t *testing.T, n int) [][]float32 {
	t.Helper()
	g, err := onnx.DecodeBytes(digits.Model)
	if err != nil {
		t.Fatal(err)
	}
	f, err := flock.Start(t.Context(), g, flock.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := make([][]float32, n)
	var answer coordinator.Answer
	for i := range all {
		if err := f.Infer(t.Context(), []*tensor.Tensor{digitAt(i)}, &answer); err != nil {
			t.Fatal(err)
		}
		all[i] = slices.Clone(answer.Outputs[0].F32())
	}
	return all
}

func classOf(logits []float32) int {
	return slices.Index(logits, slices.Max(logits))
}
