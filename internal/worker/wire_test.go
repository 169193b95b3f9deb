package worker_test

import (
	"testing"
	"time"

	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/shard"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// Inputs and results are encoded as the header says; what it says wrongly costs an
// answer, not the worker.
func TestEncodings(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, nil, func(t *testing.T, b *boss) {
		b.employ(infos[0])
		sh, err := shard.Open(infos[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		defer sh.Close()
		slice, err := engine.NewSlice(sh.Slices[0].Linear, sh.Slices[0].Weights)
		if err != nil {
			t.Fatal(err)
		}
		request := uint64(0)
		for _, payload := range []wire.Encoding{wire.F32, wire.F16, wire.Int8} {
			for _, wanted := range []wire.Encoding{wire.F32, wire.F16, wire.Int8} {
				request++
				x := append([]float32(nil), inputs[0]...)
				raw := tensor.Alloc(payload.Size(len(x)))
				payload.Encode(raw, x)
				payload.Decode(x, raw)
				y := make([]float32, sh.Slices[0].Linear.Rows)
				slice.Run(nil, tensor.Bytes(y), tensor.Bytes(x), nil)
				want := tensor.Alloc(wanted.Size(len(y)))
				wanted.Encode(want, y)
				b.tell(frame.Header{Type: frame.Compute, Request: request, Slice: 7, Flags: frame.ComputeFlags(uint8(payload), uint8(wanted), 0)}, raw)
				got := b.hear(frame.Result)
				if got.h.Flags != uint16(wanted) || got.payload != string(want) {
					t.Errorf("%v for %v: flags %04x, payload % x, want % x", payload, wanted, got.h.Flags, got.payload, want)
				}
			}
		}
		raw := tensor.Bytes(inputs[0])
		for _, c := range []struct {
			flags uint16
			raw   []byte
			says  string
		}{
			{3, raw, "does not take encoding 3 for f32"},
			{frame.ComputeFlags(0, 3, 0), raw, "does not take f32 for encoding 3"},
			{frame.ComputeFlags(uint8(wire.F16), 0, 0), raw, "another size"},
			{frame.ComputeFlags(uint8(wire.Int8), 0, 0), nil, "another size"},
			{0, raw[:wire.F16.Size(4)], "another size"},
		} {
			request++
			b.tell(frame.Header{Type: frame.Compute, Request: request, Flags: c.flags}, c.raw)
			b.failed(request, c.says)
		}
		b.compute(99, 0)
		b.result(infos[0], 99, 0)
	})
}

// What nobody will want any more when its turn comes is dropped, without a Cancel.
func TestTimeIsOver(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, nil, func(_ *testing.T, b *boss) {
		b.employ(infos[0])
		b.delay(time.Second)
		compute := func(request uint64, left time.Duration) {
			p := link.PayloadOf(tensor.Bytes(inputs[0]))
			defer p.Release()
			b.conn.TrySend(frame.Header{Type: frame.Compute, Request: request, Slice: 7, Flags: frame.ComputeFlags(0, 0, left)}, p)
		}
		compute(1, 0)
		compute(2, 900*time.Millisecond)  // is over while it waits
		compute(3, 1500*time.Millisecond) // while it is computed
		compute(4, time.Minute)
		time.Sleep(time.Second)
		b.result(infos[0], 1, 0)
		b.failed(2, "")
		time.Sleep(time.Second)
		b.failed(3, "")
		b.hearNothing()
		time.Sleep(time.Second)
		b.result(infos[0], 4, 0)
	})
}
