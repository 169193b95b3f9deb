package experiment

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/onnx"
	"starling/internal/rewrite"
)

// How Beside and its yardstick take turns: often and shortly, because a machine that
// others use too is faster and slower from one second to the next.
const (
	besideRounds = 21
	besideTurn   = 100 * time.Millisecond // about; as many requests as take it
	fewest       = 3                      // requests of a turn
)

// Before a turn here both rest, because threads of the yardstick keep looking for work
// after its own turn, for 48 ms of a CPU; where this process computes beside them that
// lasts twice as long. Then a turn goes on for a while before it counts.
const (
	rest   = 80 * time.Millisecond
	settle = 20 * time.Millisecond
)

// Ratio is a model's time here beside that of a yardstick: medians of the rounds'
// medians, and of the rounds' ratios.
type Ratio struct {
	Model     string  `json:"model"`
	MS        float64 `json:"ms"`
	Yardstick float64 `json:"yardstick_ms"`
	Ratio     float64 `json:"ratio"`
	GFLOPS    float64 `json:"gflops"` // here; of integers too
	Share     float64 `json:"share"`  // of the fastest request, of the highest peak measured between rounds
}

// Beside measures a model here and in another program in turns. The program is
// started as COMMAND MODEL.onnx --threads T --serve, with the simplified model so
// that both run the same graph. It prints "ready" when it has loaded it; then for
// each number n that it reads on a line it answers with a line: the median in
// milliseconds of n requests, of CPU time if there is one thread. Beside simplifies
// g and takes its constants.
func Beside(ctx context.Context, name string, g *graph.Graph, c EngineConfig, command []string) (*Ratio, error) {
	r, err := beside(ctx, g, c, command)
	if err != nil {
		return nil, fmt.Errorf("%s beside %s: %w", name, command[0], err)
	}
	r.Model = name
	return r, nil
}

func beside(ctx context.Context, g *graph.Graph, c EngineConfig, command []string) (r *Ratio, err error) {
	if err := rewrite.Simplify(g); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "starling-beside-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "model.onnx")
	if err := writeModel(path, g); err != nil {
		return nil, err
	}
	other, err := startYardstick(ctx, append(append([]string{}, command...), path, "--threads", strconv.Itoa(c.Threads), "--serve"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, other.close()) }()

	pool := kernel.NewPool(c.Threads)
	defer pool.Close()
	inputs := randomInputs(g, c.Seed)
	p, err := engine.Compile(g, engine.Options{Pool: pool, Consume: true})
	if err != nil {
		return nil, err
	}
	s := p.NewSession()
	for range 2 { // warm
		start := time.Now()
		if _, err := s.Run(ctx, nil, inputs); err != nil {
			return nil, err
		}
		c.Requests = min(c.Requests, max(fewest, int(besideTurn/time.Since(start))))
	}
	var flops float64 // of a request
	for _, n := range g.Nodes {
		flops += float64(graph.FLOPs(g, n))
	}
	var ours, theirs [besideRounds]time.Duration
	var ratios [besideRounds]float64
	fastest, peak := time.Duration(math.MaxInt64), 0.0
	took, watch := make([]time.Duration, c.Requests), stopwatch(c.Threads)
	for round := range besideRounds {
		time.Sleep(rest)
		for start := time.Now(); time.Since(start) < settle; {
			if _, err := s.Run(ctx, nil, inputs); err != nil {
				return nil, err
			}
		}
		for i := range took {
			start := watch()
			if _, err := s.Run(ctx, nil, inputs); err != nil {
				return nil, err
			}
			took[i] = watch() - start
		}
		ours[round] = median(took)
		fastest, peak = min(fastest, slices.Min(took)), max(peak, peakGFLOPS(pool))
		if theirs[round], err = other.measure(c.Requests); err != nil {
			return nil, err
		}
		ratios[round] = float64(ours[round]) / float64(theirs[round])
	}
	a := float64(median(ours[:]))
	share := flops / float64(fastest) / peak
	return &Ratio{
		MS: a / 1e6, Yardstick: float64(median(theirs[:])) / 1e6, Ratio: median(ratios[:]), GFLOPS: flops / a, Share: share,
	}, nil
}

// stopwatch is what requests are timed by. On one thread it shows the CPU time of
// this process, which other programs on the machine add nothing to; threads wait
// for each other, and only the time of the day shows that.
func stopwatch(threads int) func() time.Duration {
	start := time.Now()
	if threads > 1 {
		return func() time.Duration { return time.Since(start) }
	}
	return func() time.Duration {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
			panic(err) // this clock is always there
		}
		return time.Duration(t.Nano())
	}
}

func writeModel(path string, g *graph.Graph) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(onnx.Encode(f, g), f.Close())
}

// yardstick is the other program.
type yardstick struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func startYardstick(ctx context.Context, command []string) (*yardstick, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	y := &yardstick{cmd, in, bufio.NewScanner(out)}
	if line, err := y.line(); err != nil || line != "ready" {
		return nil, errors.Join(fmt.Errorf("it said %q, not ready", line), err, y.close())
	}
	return y, nil
}

func (y *yardstick) line() (string, error) {
	if !y.lines.Scan() {
		return "", errors.Join(errors.New("it ended"), y.lines.Err())
	}
	return strings.TrimSpace(y.lines.Text()), nil
}

func (y *yardstick) measure(requests int) (time.Duration, error) {
	if _, err := fmt.Fprintln(y.in, requests); err != nil {
		return 0, err
	}
	line, err := y.line()
	if err != nil {
		return 0, err
	}
	ms, err := strconv.ParseFloat(line, 64)
	if err != nil || !(ms > 0) {
		return 0, fmt.Errorf("it said %q, not a time", line)
	}
	return time.Duration(ms * 1e6), nil
}

// close ends the program by the end of its input, and waits for it.
func (y *yardstick) close() error {
	return errors.Join(y.in.Close(), y.cmd.Wait())
}

// PrintRatios writes a table in Markdown, with the geometric mean of the ratios.
func PrintRatios(w io.Writer, m Machine, ratios []*Ratio) error {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintf(w, "%s, threads: %d; peaks %.0f GFLOP/s, %.1f GB/s\n\n", m.Level, m.Threads, m.GFLOPS, m.GBS)
	fmt.Fprintf(t, "| model\t| Starling ms\t| yardstick ms\t| ratio\t| GFLOP/s\t| of peak\t|\n|---\t|---\t|---\t|---\t|---\t|---\t|\n")
	sum := 0.0
	for _, r := range ratios {
		fmt.Fprintf(t, "| %s\t| %.3f\t| %.3f\t| %.2f\t| %.1f\t| %.0f %%\t|\n", r.Model, r.MS, r.Yardstick, r.Ratio, r.GFLOPS, 100*r.Share)
		sum += math.Log(r.Ratio)
	}
	fmt.Fprintf(t, "| geometric mean\t| \t| \t| %.2f\t| \t| \t|\n", math.Exp(sum/float64(len(ratios))))
	return t.Flush()
}
