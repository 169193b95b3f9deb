package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"starling/internal/tensor"
)

// layOut gives every buffer its place in the arena, so that buffers which hold
// values at the same time do not overlap, and returns the arena's size. The
// largest come first, each at the lowest place that is free while it lives
// (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
// Inference", 2020, greedy by size for offset calculation).
func layOut(slots []slot) (arenaBytes int, err error) {
	var order []*slot
	for i := range slots {
		if slots[i].isBuffer() && !slots[i].part {
			order = append(order, &slots[i])
		}
	}
	slices.SortStableFunc(order, func(a, b *slot) int { return cmp.Compare(b.sizeBytes, a.sizeBytes) })
	byOffset := func(a, b *slot) int { return cmp.Compare(a.offset, b.offset) }
	var placed []*slot // sorted by offset
	for _, s := range order {
		at := int64(0)
		for _, q := range placed {
			if q.last < s.first || s.last < q.first {
				continue
			}
			if int64(q.offset) >= at+int64(s.sizeBytes) {
				break
			}
			at = max(at, int64(q.offset)+int64(q.sizeBytes))
			at = (at + tensor.Align - 1) &^ (tensor.Align - 1)
		}
		if at > math.MaxInt-2*tensor.Align-int64(s.sizeBytes) {
			return 0, fmt.Errorf("activations need more than %d bytes", math.MaxInt)
		}
		s.offset = int(at)
		arenaBytes = max(arenaBytes, s.offset+s.sizeBytes)
		where, _ := slices.BinarySearchFunc(placed, s, byOffset)
		placed = slices.Insert(placed, where, s)
	}
	for i := range slots {
		if s := &slots[i]; s.part { // of a slot before it
			s.offset = slots[s.whole].offset + s.at
		}
	}
	return arenaBytes, nil
}
