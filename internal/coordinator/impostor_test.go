package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/shard"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// impostor is a worker that says of each request what answer does: right is the
// result of an honest one.
type impostor struct {
	t      testing.TB
	p      *prepared
	slot   int
	conn   *link.Conn
	shard  *shard.Shard
	slices map[uint32]*engine.Slice
	answer func(im *impostor, h frame.Header, right []float32)
	ended  chan struct{}
}

func newImpostor(t testing.TB, p *prepared, slot int, answer func(*impostor, frame.Header, []float32)) *impostor {
	t.Helper()
	sh, err := shard.Open(p.infos[slot].Path)
	if err != nil {
		t.Fatal(err)
	}
	im := &impostor{t: t, p: p, slot: slot, shard: sh, slices: map[uint32]*engine.Slice{}, answer: answer, ended: make(chan struct{})}
	for _, s := range sh.Slices {
		if im.slices[uint32(s.Layer)], err = engine.NewSlice(s.Linear, s.Weights); err != nil {
			t.Fatal(err)
		}
	}
	return im
}

// join says hello and serves on conn until that ends.
func (im *impostor) join(conn *link.Conn) {
	im.t.Helper()
	im.conn = conn
	hello := &frame.HelloInfo{Version: frame.Protocol, ID: fmt.Sprintf("impostor-%d", im.slot), Name: fmt.Sprintf("w%d", im.slot+1)}
	if err := conn.SendInfo(context.Background(), frame.Hello, hello); err != nil {
		im.t.Fatal(err)
	}
	go func() {
		defer close(im.ended)
		defer im.shard.Close()
		defer conn.Close()
		im.serve()
	}()
}

func (l *lab) impostor(slot int, answer func(*impostor, frame.Header, []float32)) *impostor {
	l.t.Helper()
	im := newImpostor(l.t, l.prepared, slot, answer)
	here, there := link.Pipe(link.Config{})
	if err := l.c.Attach(there); err != nil {
		l.t.Fatal(err)
	}
	im.join(here)
	synctest.Wait()
	return im
}

func (im *impostor) serve() {
	for {
		h, payload, err := im.conn.Receive()
		if err != nil {
			return
		}
		switch h.Type {
		case frame.Assign:
			im.conn.TrySend(frame.Header{Type: frame.Ready}, nil)
		case frame.Compute:
			var linear engine.Linear
			for _, s := range im.shard.Slices {
				if uint32(s.Layer) == h.Layer {
					linear = s.Linear
				}
			}
			right := make([]float32, linear.OutputLen())
			im.slices[h.Layer].Run(nil, tensor.Bytes(right), payload, nil)
			h.Type, h.Length, h.PayloadCRC = frame.Result, 0, 0
			im.answer(im, h, right)
		}
	}
}

func (im *impostor) send(h frame.Header, result []float32) {
	p := link.PayloadOf(tensor.Bytes(result))
	defer p.Release()
	_ = im.conn.Send(context.Background(), h, p) // an error: the connection has ended
}

func (im *impostor) end() {
	im.conn.Close()
	<-im.ended
}

// garbage is no result of anything: decoding with it shows.
func garbage(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(1000 + i)
	}
	return x
}

// Whatever one worker sends beside the point, no answer is wrong and none is
// lost.
func TestImpostor(t *testing.T) {
	wrong := func(n int) []float32 { return garbage(n) }
	for _, c := range []struct {
		name   string
		honest bool // the right result comes too, so nothing needs to be decoded
		ends   bool // the connection is ended
		answer func(im *impostor, h frame.Header, right []float32)
	}{
		{"says nothing", false, false, func(*impostor, frame.Header, []float32) {}},
		{"empty result", false, false, func(im *impostor, h frame.Header, _ []float32) { im.send(h, nil) }},
		{"a value short", false, false, func(im *impostor, h frame.Header, right []float32) { im.send(h, right[1:]) }},
		{"a value long", false, false, func(im *impostor, h frame.Header, right []float32) { im.send(h, append(right, 1)) }},
		{"bytes that fill no value", false, false, func(im *impostor, h frame.Header, _ []float32) {
			p := link.PayloadOf([]byte{1, 2, 3})
			defer p.Release()
			im.conn.TrySend(h, p)
		}},
		{"encoded as nobody asked", false, false, func(im *impostor, h frame.Header, right []float32) {
			for flags := range uint16(8) {
				p := link.NewPayload(wire.Encoding(flags).Size(len(right)))
				clear(p.Bytes())
				if h.Flags = flags; flags&3 != 0 {
					_ = im.conn.Send(context.Background(), h, p)
				}
				p.Release()
			}
		}},
		{"other slices", false, false, func(im *impostor, h frame.Header, right []float32) {
			for s := range uint32(6) {
				if other := h; s != h.Slice {
					other.Slice = s
					im.send(other, wrong(len(right)))
				}
			}
		}},
		{"other slices, of their size", false, false, func(im *impostor, h frame.Header, _ []float32) {
			layer := im.p.plan.Layers[h.Layer]
			for s := range im.p.plan.N() {
				if other := h; uint32(s) != h.Slice {
					other.Slice = uint32(s)
					im.send(other, wrong(layer.Slice(s).OutputLen()))
				}
			}
		}},
		{"numbers beyond int32", false, false, func(im *impostor, h frame.Header, right []float32) {
			for _, at := range [][2]uint32{
				{math.MaxUint32, h.Slice},
				{h.Layer, math.MaxUint32},
				{math.MaxUint32, math.MaxUint32},
				{1 << 31, 1 << 31},
				{h.Layer, 1 << 31},
			} {
				other := h
				other.Layer, other.Slice = at[0], at[1]
				im.send(other, wrong(len(right)))
			}
		}},
		{"other requests", false, false, func(im *impostor, h frame.Header, right []float32) {
			for _, request := range []uint64{0, h.Request - 1, h.Request + 1, math.MaxUint64} {
				other := h
				other.Request = request
				im.send(other, wrong(len(right)))
			}
		}},
		{"other layers", false, false, func(im *impostor, h frame.Header, right []float32) {
			for layer := range uint32(5) {
				if other := h; layer != h.Layer {
					other.Layer = layer
					im.send(other, wrong(len(right)))
				}
			}
		}},
		{"duplicates", true, false, func(im *impostor, h frame.Header, right []float32) {
			im.send(h, right)
			im.send(h, wrong(len(right)))
			im.send(h, wrong(len(right)))
			im.conn.TrySend(frame.Header{Type: frame.Failed, Request: h.Request, Layer: h.Layer, Slice: h.Slice}, nil)
		}},
		{"results of requests that are over", true, false, func(im *impostor, h frame.Header, right []float32) {
			for request := range h.Request {
				other := h
				other.Request = request
				im.send(other, wrong(len(right)))
			}
			im.send(h, right)
		}},
		{"failed", false, false, func(im *impostor, h frame.Header, _ []float32) {
			h.Type = frame.Failed
			im.conn.TrySend(h, nil)
		}},
		{"failed with unprintable bytes, then the result", false, false, func(im *impostor, h frame.Header, right []float32) {
			p := link.PayloadOf([]byte("\x1b[2J\xff\x00"))
			defer p.Release()
			failed := h
			failed.Type = frame.Failed
			im.conn.TrySend(failed, p)
			im.send(h, wrong(len(right)))
		}},
		{"a hello", false, true, func(im *impostor, _ frame.Header, _ []float32) {
			im.conn.TrySend(frame.Header{Type: frame.Hello}, nil)
		}},
		{"a frame for workers", false, true, func(im *impostor, h frame.Header, right []float32) {
			h.Type = frame.Compute
			im.send(h, right)
		}},
		{"goodbye", false, true, func(im *impostor, _ frame.Header, _ []float32) {
			im.conn.TrySend(frame.Header{Type: frame.Bye}, nil)
		}},
		{"wants its shard from beyond the end", false, true, func(im *impostor, _ frame.Header, _ []float32) {
			im.conn.TrySend(frame.Header{Type: frame.Want, Request: math.MaxUint64}, nil)
		}},
		{"wants its shard over and over", true, false, func(im *impostor, h frame.Header, right []float32) {
			im.conn.TrySend(frame.Header{Type: frame.Want, Request: 5}, nil)
			im.conn.TrySend(frame.Header{Type: frame.Ready}, nil)
			im.send(h, right)
		}},
	} {
		for slot := range 4 {
			t.Run(fmt.Sprintf("%s, as w%d", c.name, slot+1), func(t *testing.T) {
				inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
					im := l.impostor(slot, c.answer)
					defer im.end()
					for i, m := range l.machines {
						if i != slot {
							m.start()
						}
					}
					if err := l.c.WaitReady(t.Context()); err != nil {
						t.Fatal(err)
					}
					l.delay(time.Millisecond, l.others(slot)...) // what the impostor says comes first
					for i := range 4 {
						a, took := l.infer()
						if (len(a.Decoded) == 0) != (c.honest || l.dataLayers(slot) == 0) || len(a.Recomputed) != 0 {
							t.Errorf("request %d: %+v", a.Request, a)
						}
						// A millisecond for each layer, and in the first request the
						// least grace.
						if took > 2*time.Millisecond && i > 0 || took > 4*time.Millisecond {
							t.Errorf("request %d took %v", a.Request, took)
						}
					}
					synctest.Wait()
					if gone := l.c.Status()[slot].State == coordinator.Gone; gone != c.ends {
						t.Errorf("status %+v", l.c.Status()[slot])
					}
				})
			})
		}
	}
}

func (l *lab) others(slot int) []int {
	var others []int
	for i := range l.machines {
		if i != slot {
			others = append(others, i)
		}
	}
	return others
}

// Results that arrive damaged are counted, and do not count.
func TestDamagedResults(t *testing.T) {
	for slot := range 4 {
		t.Run(fmt.Sprintf("w%d", slot+1), func(t *testing.T) {
			inLab(t, model(t, "conv", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
				l.start(slot)
				here, there := net.Pipe()
				if err := l.c.Attach(link.New(there, link.Config{})); err != nil {
					t.Fatal(err)
				}
				cfg := l.machines[slot].config()
				line := &noise{Conn: here}
				once := sync.Once{}
				cfg.Dial = func(context.Context) (*link.Conn, error) {
					err := errOff
					var conn *link.Conn
					once.Do(func() { conn, err = link.New(line, link.Config{}), nil })
					return conn, err
				}
				ctx, stop := context.WithCancel(context.Background())
				defer stop()
				go runWorker(ctx, t, cfg)
				if err := l.c.WaitReady(t.Context()); err != nil {
					t.Fatal(err)
				}
				l.delay(time.Millisecond, l.others(slot)...)
				for range 3 {
					a, took := l.infer()
					if took != 3*time.Millisecond || len(a.Decoded) != l.dataLayers(slot) || len(a.Recomputed) != 0 {
						t.Errorf("took %v: %+v", took, a)
					}
				}
				if n := l.c.Damaged(); n != 9 || l.c.Status()[slot].State != coordinator.Ready {
					t.Errorf("%d damaged, want 3 layers of 3 requests; %+v", n, l.c.Status()[slot])
				}
			})
		})
	}
}

// noise flips a bit in the payload of every result that is written: frames of a
// link are written header first.
type noise struct {
	net.Conn
	result bool
}

func (n *noise) Write(b []byte) (int, error) {
	if n.result {
		b = append([]byte(nil), b...)
		b[len(b)/2] ^= 4
	}
	n.result = len(b) == frame.HeaderSize && !n.result && frame.Type(b[5]) == frame.Result
	return n.Conn.Write(b)
}

// A slice that was sent on a connection which then ends by itself, in an orderly
// way, is known to be lost at once, also without parity.
func TestGoodbyeWithoutParity(t *testing.T) {
	inLab(t, model(t, "dense", 1, 2, 0), coordinator.Config{}, func(t *testing.T, l *lab) {
		im := l.impostor(0, func(im *impostor, _ frame.Header, _ []float32) {
			im.conn.TrySend(frame.Header{Type: frame.Bye}, nil)
		})
		defer im.end()
		l.machines[1].start()
		if err := l.c.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		in, _ := l.request(t, l.r)
		begin := time.Now()
		var lost *coordinator.LostError
		if err := l.c.Infer(context.Background(), in, &coordinator.Answer{}); !errors.As(err, &lost) || time.Since(begin) != 0 {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
	})
}

// A worker that takes no bytes: what does not fit into its queue is known to be
// lost at once, so requests do not wait even for the first grace.
func TestFullQueue(t *testing.T) {
	const each = 10 * time.Millisecond
	inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start(0)
		l.delay(each, 1, 2, 3)
		here, there := net.Pipe() // without a buffer of its own
		if err := l.c.Attach(link.New(there, link.Config{Queue: 3, WriteDeadline: time.Minute})); err != nil {
			t.Fatal(err)
		}
		joinDeaf(t, here)
		if err := l.c.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			a, took := l.infer()
			want := 2 * each
			if i == 0 {
				want += leastGrace
			}
			if took != want || len(a.Decoded) != l.dataLayers(0) || len(a.Recomputed) != 0 {
				t.Errorf("request %d took %v: %+v", a.Request, took, a)
			}
			// Three frames at most were accepted and had to be given up.
			if i >= 3 && a.Late != 0 {
				t.Errorf("request %d: %d late", a.Request, a.Late)
			}
		}
	})
}

// joinDeaf joins and then reads nothing more, while its pings go on.
func joinDeaf(t *testing.T, nc net.Conn) {
	t.Helper()
	conn := link.New(nc, link.Config{})
	t.Cleanup(func() { conn.Close() })
	hello := &frame.HelloInfo{Version: frame.Protocol, ID: "deaf", Name: "w1"}
	if err := conn.SendInfo(context.Background(), frame.Hello, hello); err != nil {
		t.Fatal(err)
	}
	for {
		h, _, err := conn.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if h.Type == frame.Assign {
			conn.TrySend(frame.Header{Type: frame.Ready}, nil)
			return
		}
	}
}
