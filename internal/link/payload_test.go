package link

import (
	"testing"
	"unsafe"
)

func TestSizeClasses(t *testing.T) {
	capacities := map[int]int{}
	for _, least := range []int{0, 1, 4095, 4096, 4097, 5120, 5121, 8192, 8193, 65536, 1 << 20, 1<<20 + 1, 100_000_000, maxPayload} {
		for size := max(0, least-3); size <= min(least+3, maxPayload); size++ {
			class, capacity := classOf(size)
			if capacity < size || capacity > 4096 && (capacity-size)*5 > capacity {
				t.Errorf("%d bytes get a buffer of %d", size, capacity)
			}
			if class < 0 || class >= len(pools) {
				t.Errorf("%d bytes: class %d of %d", size, class, len(pools))
			}
			if was, ok := capacities[class]; ok && was != capacity {
				t.Errorf("class %d has buffers of %d and of %d bytes", class, was, capacity)
			}
			capacities[class] = capacity
		}
	}
}

func TestPayload(t *testing.T) {
	p := NewPayload(4002)
	if len(p.Bytes()) != 4002 || cap(p.Bytes()) != 4002 || len(p.Float32s()) != 1000 {
		t.Errorf("4002 bytes give %d bytes (capacity %d) and %d floats", len(p.Bytes()), cap(p.Bytes()), len(p.Float32s()))
	}
	if uintptr(unsafe.Pointer(&p.Bytes()[0]))%64 != 0 {
		t.Error("not aligned to 64 bytes")
	}
	p.Retain()
	p.Release()
	p.Release()
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"release twice", p.Release},
		{"retain after release", p.Retain},
		{"negative size", func() { NewPayload(-1) }},
		{"too large", func() { NewPayload(maxPayload + 1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			c.do()
		})
	}
}

// The sum belongs to the content, not to the buffer: a buffer used again is
// summed again, and the same content once.
func TestPayloadSum(t *testing.T) {
	p := NewPayload(9)
	copy(p.Bytes(), "123456789")
	if got := p.crc(); got != 0xe3069283 {
		t.Errorf("sum %08x", got)
	}
	p.Bytes()[0] = '9' // forbidden after a send; here it shows that nothing is summed again
	if got := p.crc(); got != 0xe3069283 {
		t.Errorf("summed a second time: %08x", got)
	}
	p.Release()
	for range 100 { // one of them is that buffer, unless the pool was emptied
		q := NewPayload(0)
		defer q.Release()
		if got := q.crc(); got != 0 {
			t.Fatalf("a buffer used again keeps its old sum %08x", got)
		}
	}
}
