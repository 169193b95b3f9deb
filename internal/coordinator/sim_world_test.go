package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/worker"
)

// device is a machine, the worker on it and its link.
type device struct {
	w    *world
	slot int
	dir  string

	mu     sync.Mutex // guards the fields below
	number int        // of those that were in its place
	off    bool       // it cannot dial
	frozen time.Time  // until when nothing leaves or enters it
	noise  chances
	conn   *link.Conn     // the worker's end of its last connection
	cut    []*link.Faults // of its last connection, up and down
	conns  int            // made so far
	stop   context.CancelFunc
	done   chan error
}

func newDevice(w *world, slot int) *device {
	d := &device{w: w, slot: slot, dir: w.model.dir, noise: w.noise}
	if w.own {
		d.dir = filepath.Join(w.dir, d.id())
	}
	return d
}

func (d *device) id() string { return fmt.Sprintf("device-%d.%d", d.slot, d.number) }

func (d *device) dial(context.Context) (*link.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off || d.frozen.After(time.Now()) {
		return nil, errOff
	}
	d.conns++
	d.cut = d.cut[:0]
	for way := range 2 {
		seed := d.w.seed<<16 | uint64(d.slot)<<8 | uint64(way)
		r := rand.New(rand.NewPCG(seed, uint64(d.conns)))
		d.cut = append(d.cut, &link.Faults{
			Buffer: d.w.buffer,
			Frame:  func(h frame.Header) link.Fate { return d.fate(r, way, h) },
		})
	}
	// No deadline is a multiple of another, so that no two pass at one instant.
	cfg := link.Config{Heartbeat: 99_991 * time.Microsecond, ReadDeadline: 400_009 * time.Microsecond, WriteDeadline: 400_031 * time.Microsecond}
	here, there := link.FaultyPipe(cfg, d.cut[0], d.cut[1])
	if err := d.w.c.Attach(there); err != nil {
		here.Close()
		return nil, err
	}
	d.conn = here
	return here, nil
}

// The ways of a link.
const (
	up = iota // to the coordinator
	down
)

// grid is how far the instants lie apart at which one way of one link delivers.
const grid = 256

// fate draws what becomes of a frame on its way up or down. Only what a link
// could lose without the peers' notice is lost or comes twice: a request's
// frames, and pings.
func (d *device) fate(r *rand.Rand, way int, h frame.Header) link.Fate {
	d.mu.Lock()
	defer d.mu.Unlock()
	delay := d.w.delay
	if d.w.calm.Load() {
		delay = time.Microsecond
	}
	f := link.Fate{Delay: time.Duration(r.Int64N(int64(delay))), Grid: grid, At: time.Duration(2*d.slot + way)}
	if d.w.together {
		f.Grid = 0
		f.Delay *= time.Duration(r.IntN(8) / 7)
	}
	f.Delay += max(0, time.Until(d.frozen))
	size := frame.HeaderSize + int(h.Length)
	single := h.Type == frame.Compute || h.Type == frame.Cancel || h.Type == frame.Result || h.Type == frame.Failed || h.Type == frame.Ping
	f.Lost = r.Float64() < d.noise.lost && single
	f.Twice = r.Float64() < d.noise.twice && single
	if r.Float64() < d.noise.flip {
		f.Flip = 1 + r.IntN(size)
	}
	if r.Float64() < d.noise.keep {
		f.Keep = 1 + r.IntN(size)
	}
	d.w.trace.add(time.Since(d.w.begin), "frame "+h.Type.String(), uint64(f.At), h.Request, uint64(h.Layer)<<40|uint64(h.Slice)<<20|uint64(h.Nth), uint64(h.PayloadCRC),
		uint64(f.Delay), uint64(f.Flip)<<32|uint64(f.Keep), bit(f.Lost)|bit(f.Twice)<<1)
	return f
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// start runs the worker's process.
func (d *device) start() {
	ctx, stop := context.WithCancel(context.Background())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stop, d.done, d.off = stop, make(chan error, 1), false
	cfg := worker.Config{ID: d.id(), Name: fmt.Sprintf("w%d", d.slot+1), StateDir: d.dir, Threads: 1, Dial: d.dial}
	go func(done chan<- error) { done <- worker.Run(ctx, cfg) }(d.done)
}

// halt kills the process, which closes its connection unless the link is cut,
// and waits until it has ended.
func (d *device) halt() {
	d.mu.Lock()
	d.off = true
	conn, stop, done := d.conn, d.stop, d.done
	d.conn, d.stop, d.done = nil, nil, nil
	d.mu.Unlock()
	if done == nil {
		return
	}
	if conn != nil {
		conn.Close()
	}
	stop()
	var refused *worker.RefusedError
	if err := <-done; err != nil && !errors.As(err, &refused) {
		d.w.t.Errorf("worker %s: %v", d.id(), err)
	}
}

// fail cuts the ways of its link.
func (d *device) fail(ways ...int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, way := range ways {
		if way < len(d.cut) {
			d.cut[way].Cut()
		}
	}
}

// running says whether its process runs and was not refused.
func (d *device) running() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done != nil && len(d.done) == 0
}

// reset ends its connection; the process dials again.
func (d *device) reset() {
	d.mu.Lock()
	conn := d.conn
	d.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
}

func (d *device) emulate(how *frame.EmulateInfo) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_ = d.w.c.Emulate(ctx, d.slot, how) // who is gone cannot be made worse
}

// replace has another device take its place.
func (d *device) replace() {
	d.halt()
	d.mu.Lock()
	d.number++
	d.mu.Unlock()
	d.start()
}

// heal switches it off and ends whatever ails it.
func (d *device) heal() {
	d.halt()
	d.mu.Lock()
	d.noise, d.frozen = chances{}, time.Time{}
	if d.w.lying {
		d.number++ // else it stays in quarantine
	}
	d.mu.Unlock()
}

// strikes are what may happen to a device. The first one heals; the others only
// do where they find the device as they need it.
var strikes = []func(w *world, d *device){
	func(w *world, d *device) { // it is switched on
		if !d.running() {
			d.halt()
			d.start()
		}
		d.mu.Lock()
		d.off = false
		d.mu.Unlock()
		d.emulate(&frame.EmulateInfo{Speed: 1})
	},
	func(_ *world, d *device) { d.halt() }, // its process is killed
	func(_ *world, d *device) { // the power goes: nobody hears of it
		d.fail(up, down)
		d.halt()
	},
	func(_ *world, d *device) { // the power goes and comes back before anybody knows
		d.fail(up, down)
		d.halt()
		d.start()
	},
	func(_ *world, d *device) { d.fail(up, down) },    // its link is cut silently, and then dialled again
	func(w *world, d *device) { d.fail(w.r.IntN(2)) }, // one way of it
	func(_ *world, d *device) { d.reset() },
	func(w *world, d *device) { // it hangs, shorter or longer than deadlines
		d.mu.Lock()
		defer d.mu.Unlock()
		d.frozen = time.Now().Add(time.Duration(w.r.Int64N(int64(time.Second))))
	},
	func(w *world, d *device) { d.emulate(delayed(time.Duration(w.r.IntN(100)) * time.Millisecond)) },
	func(_ *world, d *device) { d.emulate(delayed(time.Hour)) }, // it computes for ever
	func(_ *world, d *device) { d.emulate(&frame.EmulateInfo{Speed: 1, Corrupt: 0.5}) },
	func(_ *world, d *device) { // its radio turns bad, until it is healed
		d.mu.Lock()
		defer d.mu.Unlock()
		d.noise = chances{lost: 0.3, twice: 0.2, flip: 0.1, keep: 0.01}
	},
	func(_ *world, d *device) { // its radio is well again
		d.mu.Lock()
		defer d.mu.Unlock()
		d.noise = chances{}
	},
	func(w *world, _ *device) { // all restart
		for _, d := range w.devices {
			d.halt()
			d.start()
			time.Sleep(time.Microsecond) // each at its own instant
		}
	},
	func(w *world, d *device) { // it is killed and its disk suffers
		if !w.own {
			return
		}
		d.halt()
		files, _ := filepath.Glob(filepath.Join(d.dir, "*"))
		for _, file := range files {
			if w.r.IntN(2) == 0 {
				os.RemoveAll(file)
				continue
			}
			_ = os.Truncate(file, 100)
		}
		d.start()
	},
	func(_ *world, d *device) { d.replace() },
}

// strike makes something happen to a device.
func (w *world) strike() {
	d := w.devices[w.r.IntN(len(w.devices))]
	if w.lies {
		w.lie(d)
		return
	}
	kind := w.strikes[w.r.IntN(len(w.strikes))]
	if w.r.IntN(4) == 0 {
		kind = 0
	}
	w.trace.add(time.Since(w.begin), "strike", uint64(d.slot), uint64(kind))
	strikes[kind](w, d)
	synctest.Wait()
}

// lie has one device give wrong results, until it was found out and is replaced.
func (w *world) lie(d *device) {
	states := map[coordinator.State]int{}
	for i, s := range w.c.Status() {
		states[s.State]++
		if s.State == coordinator.Quarantined {
			w.trace.add(time.Since(w.begin), "replace", uint64(i))
			w.devices[i].replace()
			w.lying = false
		}
	}
	if !w.lying && states[coordinator.Ready]+states[coordinator.Spare] == len(w.devices) {
		w.trace.add(time.Since(w.begin), "lie", uint64(d.slot))
		w.lied[d.slot].Store(true)
		d.emulate(&frame.EmulateInfo{Speed: 1, Wrong: 1})
		w.lying = true
	}
	synctest.Wait()
}
