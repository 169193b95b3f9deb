package kernel

import (
	"bytes"
	"sync/atomic"
)

// The yardsticks that measured kernels are compared with: loops on the same
// level and threads that do nothing but compute, or nothing but read.

// spinBlocks is into how many blocks a yardstick's work is cut for each thread,
// so that a thread that wakes up late leaves little undone.
const spinBlocks = 16

type peakJob struct {
	rounds int    // of spin, if there is nothing to read
	data   []byte // read in blocks
	blocks int
	flops  atomic.Int64
}

func (j *peakJob) runBlock(i int) {
	if j.data == nil {
		j.flops.Add(int64(spin(j.rounds)))
		return
	}
	part := j.data[len(j.data)/j.blocks*i : len(j.data)/j.blocks*(i+1)]
	// The standard library's search reads at memory speed on every CPU.
	if bytes.IndexByte(part, 1) >= 0 {
		panic("kernel: PeakRead wants zeros")
	}
}

// PeakFlops computes in registers on all threads of the pool, about n fused
// multiply-adds on each, and returns how many float operations it did, two for
// each multiply-add.
func PeakFlops(p *Pool, n int) int64 {
	j := &peakJob{rounds: ceilDiv(n, spinBlocks*spinLength)}
	p.run(j, p.Threads()*spinBlocks)
	return j.flops.Load()
}

// PeakRead reads data, which must be all zeros, once, on all threads of the pool.
func PeakRead(p *Pool, data []byte) {
	j := &peakJob{data: data, blocks: p.Threads() * spinBlocks}
	p.run(j, j.blocks)
}

// spinLength is about how many multiply-adds a round of spin has.
const spinLength = 96

// spinTile is spin with the tiles of the matrix product, whose operands stay in
// the nearest cache: for levels that have no loop of registers only.
func spinTile(rounds int) (flops int) {
	t := tilesOfLevel()
	var c, a, b [maxTile]float32
	for range rounds {
		gemmTiles(t, c[:], t.n, a[:], b[:], t.m, t.n, 1, false, ending{}, nil)
	}
	return 2 * rounds * t.m * t.n
}
