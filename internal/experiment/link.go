package experiment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"starling/internal/flock"
	"starling/internal/frame"
	"starling/internal/link"
)

// LinkReport is what round trips of one size take over loopback: frames of the
// tensor link there and back, and beside them, in turn, the same bytes over TCP
// behind a length, which is the least that anything on TCP does. The link adds
// checksums, heartbeats, deadlines and a queue that keeps nobody waiting.
type LinkReport struct {
	Bytes    int           `json:"bytes"` // one way
	Requests int           `json:"requests"`
	Link     flock.Latency `json:"link_ms"`
	Plain    flock.Latency `json:"plain_ms"`
	Ratio    float64       `json:"ratio"` // of the medians, link to plain
	// The CPU is what an end spends on a frame, sent or received: a quarter of what
	// this process, both ends, spends on a round trip, by getrusage(2).
	LinkCPU  float64 `json:"link_cpu_us"`
	PlainCPU float64 `json:"plain_cpu_us"`
}

// linkTurn is how many trips of a kind follow each other: so many that what the
// scheduler still does for the other kind does not count.
const linkTurn = 50

// Link measures round trips of size bytes each way.
func Link(ctx context.Context, size, requests int) (r *LinkReport, err error) {
	l, err := dialLink()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	p, err := dialPlain()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	out := make([]byte, size)
	var took [2][]time.Duration
	var spent [2]time.Duration
	ends := []*echo{l, p}
	warm := requests/10 + 1
	for _, e := range ends {
		if _, err := e.trips(ctx, out, warm, nil); err != nil {
			return nil, err
		}
	}
	for done := 0; done < requests; done += linkTurn {
		for k, e := range ends {
			before, err := cpuTime()
			if err != nil {
				return nil, err
			}
			if took[k], err = e.trips(ctx, out, min(linkTurn, requests-done), took[k]); err != nil {
				return nil, err
			}
			after, err := cpuTime()
			if err != nil {
				return nil, err
			}
			spent[k] += after - before
		}
	}
	r = &LinkReport{Bytes: size, Requests: requests, Link: flock.LatencyOf(took[0]), Plain: flock.LatencyOf(took[1])}
	r.Ratio = r.Link.P50 / r.Plain.P50
	frames := 4e3 * float64(requests) // times the nanoseconds of a microsecond
	r.LinkCPU, r.PlainCPU = float64(spent[0])/frames, float64(spent[1])/frames
	return r, nil
}

// trips makes n round trips and adds what each took.
func (e *echo) trips(ctx context.Context, out []byte, n int, took []time.Duration) ([]time.Duration, error) {
	for range n {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		begin := time.Now()
		if err := e.trip(out); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
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
	fmt.Fprintln(t, "KiB each way\ttrips\tlink µs: p50\tp99\tmax\tTCP µs: p50\tp99\tmax\tlink/TCP\tCPU µs a frame: link\tTCP\t")
	for _, r := range reports {
		fmt.Fprintf(t, "%.0f\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%.1f\t%.1f\t\n", float64(r.Bytes)/1024, r.Requests,
			1e3*r.Link.P50, 1e3*r.Link.P99, 1e3*r.Link.Max, 1e3*r.Plain.P50, 1e3*r.Plain.P99, 1e3*r.Plain.Max, r.Ratio, r.LinkCPU, r.PlainCPU)
	}
	return t.Flush()
}

// echo is one end of a connection whose other end sends back what it gets.
type echo struct {
	trip  func(out []byte) error
	close func() error
}

func dialLink() (*echo, error) {
	listener, err := link.Listen("127.0.0.1:0", link.Config{})
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	here, err := link.Dial(context.Background(), listener.Addr().String(), link.Config{})
	if err != nil {
		return nil, err
	}
	there, err := listener.Accept()
	if err != nil {
		here.Close()
		return nil, err
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		for { // until here is closed
			h, in, err := there.Receive()
			if err == nil {
				h.Type = frame.Result
				err = send(there, h, in)
			}
			if err != nil {
				return
			}
		}
	})
	number := uint64(0)
	return &echo{
		trip: func(out []byte) error {
			number++
			if err := send(here, frame.Header{Type: frame.Compute, Request: number}, out); err != nil {
				return err
			}
			h, in, err := here.Receive()
			if err == nil && (h.Request != number || len(in) != len(out)) {
				err = fmt.Errorf("frame %d of %d bytes came back as %d of %d", number, len(out), h.Request, len(in))
			}
			return err
		},
		close: func() error {
			here.Close()
			ended.Wait()
			return there.Close()
		},
	}, nil
}

func send(c *link.Conn, h frame.Header, b []byte) error {
	p := link.PayloadOf(b)
	defer p.Release()
	return c.Send(context.Background(), h, p)
}

// dialPlain frames by a length of 8 bytes.
func dialPlain() (*echo, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	here, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return nil, err
	}
	there, err := listener.Accept()
	if err != nil {
		here.Close()
		return nil, err
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		var buffer []byte
		for { // until here is closed
			var err error
			if buffer, err = readPlain(there, buffer); err == nil {
				err = writePlain(there, buffer)
			}
			if err != nil {
				return
			}
		}
	})
	var buffer []byte
	return &echo{
		trip: func(out []byte) (err error) {
			if err = writePlain(here, out); err == nil {
				buffer, err = readPlain(here, buffer)
			}
			return err
		},
		close: func() error {
			here.Close()
			ended.Wait()
			return there.Close()
		},
	}, nil
}

func writePlain(c net.Conn, b []byte) error {
	var head [8]byte
	binary.LittleEndian.PutUint64(head[:], uint64(len(b)))
	_, err := (&net.Buffers{head[:], b}).WriteTo(c)
	return err
}

// readPlain reads into buffer, or a larger one.
func readPlain(c net.Conn, buffer []byte) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return buffer, err
	}
	n := int(binary.LittleEndian.Uint64(head[:]))
	if cap(buffer) < n {
		buffer = make([]byte, n)
	}
	_, err := io.ReadFull(c, buffer[:n])
	return buffer[:n], err
}
