package engine

import (
	"math/rand/v2"
	"testing"

	"starling/internal/tensor"
)

func TestBuffersThatLiveTogetherDoNotOverlap(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		slots := make([]slot, 1+r.IntN(30))
		for i := range slots {
			first := r.IntN(20)
			slots[i] = slot{input: -1, sizeBytes: r.IntN(1000), first: first, last: first + r.IntN(6)}
		}
		slots[0].constant = []byte{1}
		size, err := layOut(slots)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range slots[1:] {
			if a.offset%tensor.Align != 0 || a.offset+a.sizeBytes > size {
				t.Fatalf("seed %d: buffer %+v in an arena of %d bytes", seed, a, size)
			}
			for _, b := range slots[1:][:i] {
				apart := a.offset+a.sizeBytes <= b.offset || b.offset+b.sizeBytes <= a.offset
				if !apart && a.first <= b.last && b.first <= a.last {
					t.Fatalf("seed %d: %+v and %+v overlap", seed, a, b)
				}
			}
		}
	}
}

func TestAChainOfBuffersNeedsTwo(t *testing.T) {
	slots := make([]slot, 50)
	for i := range slots {
		slots[i] = slot{input: -1, sizeBytes: 1024, first: i, last: i + 1}
	}
	size, err := layOut(slots)
	if err != nil || size != 2048 {
		t.Errorf("a chain of 50 buffers of 1024 bytes takes %d, error %v", size, err)
	}
}

func TestActivationsBeyondTheAddressSpace(t *testing.T) {
	const most = int(^uint(0) >> 1)
	slots := []slot{{input: -1, sizeBytes: most / 2, last: 1}, {input: -1, sizeBytes: most / 2, last: 1}, {input: -1, sizeBytes: most / 2, last: 1}}
	if size, err := layOut(slots); err == nil {
		t.Errorf("three halves of all memory fit into %d bytes", size)
	}
}
