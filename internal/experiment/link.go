package experiment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"starling/internal/flock"
	"starling/internal/frame"
	"starling/internal/link"
)

// LinkConfig says what Link measures.
type LinkConfig struct {
	Bytes    int      // one way
	Requests int      // round trips
	Workers  int      // that have the bytes sent to them, and send as many back
	Command  []string // starts Echo in another process; its arguments are appended
}

// LinkReport is what round trips of one size take over loopback, from one process
// to some peers in another one: frames of the tensor link there and back, and
// beside them, in turn, the same bytes over TCP behind a length, which is the least
// that anything on TCP does. The link adds checksums, heartbeats, deadlines and a
// queue that keeps nobody waiting.
type LinkReport struct {
	Bytes    int           `json:"bytes"` // one way
	Workers  int           `json:"workers"`
	Requests int           `json:"requests"`
	Link     flock.Latency `json:"link_ms"`
	Plain    flock.Latency `json:"plain_ms"`
	Ratio    float64       `json:"ratio"` // of the medians, link to plain
	// The CPU is what this process, the coordinator's end, spends per worker and
	// frame, sent or received, by getrusage(2).
	LinkCPU  float64 `json:"link_cpu_us"`
	PlainCPU float64 `json:"plain_cpu_us"`
}

// linkTurn is how many trips of a kind follow each other: so many that what the
// scheduler still does for the other kind does not count.
const linkTurn = 50

// MaxEchoes is the most workers that Link and Echo have.
const MaxEchoes = 64

// Link measures round trips.
func Link(ctx context.Context, c LinkConfig) (r *LinkReport, err error) {
	l, p, closeAll, err := openEnds(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	var took [2][]time.Duration
	var spent [2]time.Duration
	kinds := []*ends{l, p}
	for _, e := range kinds { // and warm up
		if _, err := e.trips(ctx, c.Bytes, c.Requests/10+1, nil); err != nil {
			return nil, err
		}
	}
	for done := 0; done < c.Requests; done += linkTurn {
		for k, e := range kinds {
			before, err := cpuTime()
			if err != nil {
				return nil, err
			}
			if took[k], err = e.trips(ctx, c.Bytes, min(linkTurn, c.Requests-done), took[k]); err != nil {
				return nil, err
			}
			after, err := cpuTime()
			if err != nil {
				return nil, err
			}
			spent[k] += after - before
		}
	}
	r = &LinkReport{
		Bytes: c.Bytes, Workers: c.Workers, Requests: c.Requests,
		Link: flock.LatencyOf(took[0]), Plain: flock.LatencyOf(took[1]),
	}
	r.Ratio = r.Link.P50 / r.Plain.P50
	frames := float64(2 * c.Workers * c.Requests)
	r.LinkCPU, r.PlainCPU = 1e3*milliseconds(spent[0])/frames, 1e3*milliseconds(spent[1])/frames
	return r, nil
}

// cpuTime is what this process has computed so far, in the system too.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// PrintLinks writes reports as a table.
func PrintLinks(w io.Writer, reports []*LinkReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "KiB each way\tworkers\ttrips\tlink µs: p50\tp99\tmax\tTCP µs: p50\tp99\tmax\tlink/TCP\tCPU µs per worker and frame: link\tTCP\t")
	for _, r := range reports {
		fmt.Fprintf(t, "%.0f\t%d\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%.1f\t%.1f\t\n", float64(r.Bytes)/1024, r.Workers, r.Requests,
			1e3*r.Link.P50, 1e3*r.Link.P99, 1e3*r.Link.Max, 1e3*r.Plain.P50, 1e3*r.Plain.P99, 1e3*r.Plain.Max, r.Ratio, r.LinkCPU, r.PlainCPU)
	}
	return t.Flush()
}

// ends are this process's ends of connections of one kind.
type ends struct {
	workers int
	send    func(number uint64, size int) error // to all
	number  atomic.Uint64                       // of the trip under way
	size    atomic.Int64                        // of its frames
	came    chan error                          // what each end received; room for all
	reading sync.WaitGroup
}

// read reports what comes at one end, by receive, until that fails.
func (e *ends) read(receive func() (number uint64, size int, err error)) {
	e.reading.Go(func() {
		for {
			number, size, err := receive()
			if err == nil && (number != e.number.Load() || int64(size) != e.size.Load()) {
				err = fmt.Errorf("frame %d of %d bytes came in trip %d of %d bytes", number, size, e.number.Load(), e.size.Load())
			}
			e.came <- err
			if err != nil {
				return
			}
		}
	})
}

// trips makes n round trips and adds what each took.
func (e *ends) trips(ctx context.Context, size, n int, took []time.Duration) ([]time.Duration, error) {
	e.size.Store(int64(size))
	for range n {
		begin := time.Now()
		if err := e.send(e.number.Add(1), size); err != nil {
			return nil, err
		}
		for range e.workers {
			select {
			case err := <-e.came:
				if err != nil {
					return nil, err
				}
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}

// openEnds starts Echo and takes in its connections.
func openEnds(ctx context.Context, c LinkConfig) (l, p *ends, closeAll func() error, err error) {
	if ctx.Err() != nil {
		return nil, nil, nil, context.Cause(ctx)
	}
	linkListener, err := link.Listen("127.0.0.1:0", link.Config{})
	if err != nil {
		return nil, nil, nil, err
	}
	defer linkListener.Close()
	plainListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, nil, err
	}
	defer plainListener.Close()
	args := append(slices.Clone(c.Command[1:]), linkListener.Addr().String(), plainListener.Addr().String(), strconv.Itoa(c.Workers))
	cmd := exec.CommandContext(ctx, c.Command[0], args...)
	if err := cmd.Start(); err != nil {
		return nil, nil, nil, err
	}
	exited := make(chan error, 1)
	go func() {
		exited <- cmd.Wait()
		linkListener.Close() // who waits for it, waits in vain
		plainListener.Close()
	}()
	var links []*link.Conn
	var plains []net.Conn
	l = &ends{workers: c.Workers, came: make(chan error, 2*c.Workers)}
	p = &ends{workers: c.Workers, came: make(chan error, 2*c.Workers)}
	closeAll = func() error {
		for _, conn := range links {
			conn.Close()
		}
		for _, conn := range plains {
			conn.Close()
		}
		l.reading.Wait()
		p.reading.Wait()
		return <-exited // it ends when its connections do
	}
	for range c.Workers {
		conn, err := linkListener.Accept()
		if err != nil {
			return nil, nil, nil, errors.Join(err, closeAll())
		}
		links = append(links, conn)
		l.read(func() (uint64, int, error) {
			h, in, err := conn.Receive()
			return h.Request, len(in), err
		})
	}
	for range c.Workers {
		conn, err := plainListener.Accept()
		if err != nil {
			return nil, nil, nil, errors.Join(err, closeAll())
		}
		plains = append(plains, conn)
		var buffer []byte
		p.read(func() (number uint64, size int, err error) {
			number, buffer, err = readPlain(conn, buffer)
			return number, len(buffer), err
		})
	}
	l.send = func(number uint64, size int) error {
		payload := link.NewPayload(size) // all take the same, as of a layer's input
		defer payload.Release()
		for _, conn := range links {
			if err := conn.Send(ctx, frame.Header{Type: frame.Compute, Request: number}, payload); err != nil {
				return err
			}
		}
		return nil
	}
	var out []byte
	p.send = func(number uint64, size int) error {
		if len(out) != size {
			out = make([]byte, size)
		}
		for _, conn := range plains {
			if err := writePlain(conn, number, out); err != nil {
				return err
			}
		}
		return nil
	}
	return l, p, closeAll, nil
}

// Echo is the other process of Link: it sends back what comes over as many
// connections of each kind, until they end. After an error the process is to end,
// and with it what goes on.
func Echo(ctx context.Context, linkAddr, plainAddr string, workers int) error {
	var running sync.WaitGroup
	for range workers {
		conn, err := link.Dial(ctx, linkAddr, link.Config{})
		if err != nil {
			return err
		}
		running.Go(func() {
			defer conn.Close()
			for {
				h, in, err := conn.Receive()
				if err != nil {
					return
				}
				h.Type = frame.Result
				payload := link.NewPayload(len(in)) // as of a result that was computed into it
				err = conn.Send(ctx, h, payload)
				payload.Release()
				if err != nil {
					return
				}
			}
		})
	}
	for range workers {
		conn, err := net.Dial("tcp", plainAddr)
		if err != nil {
			return err
		}
		running.Go(func() {
			defer conn.Close()
			var buffer []byte
			for {
				number, in, err := readPlain(conn, buffer)
				if err == nil {
					buffer = in
					err = writePlain(conn, number, in)
				}
				if err != nil {
					return
				}
			}
		})
	}
	running.Wait()
	return nil
}

// writePlain frames by a number and a length.
func writePlain(c net.Conn, number uint64, b []byte) error {
	var head [16]byte
	binary.LittleEndian.PutUint64(head[:], number)
	binary.LittleEndian.PutUint64(head[8:], uint64(len(b)))
	_, err := (&net.Buffers{head[:], b}).WriteTo(c)
	return err
}

// readPlain reads into buffer, or a larger one.
func readPlain(c net.Conn, buffer []byte) (number uint64, in []byte, err error) {
	var head [16]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, buffer, err
	}
	n := int(binary.LittleEndian.Uint64(head[8:]))
	if cap(buffer) < n {
		buffer = make([]byte, n)
	}
	_, err = io.ReadFull(c, buffer[:n])
	return binary.LittleEndian.Uint64(head[:]), buffer[:n], err
}
