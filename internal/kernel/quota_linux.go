package kernel

import (
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// quota is how many CPUs this process may use by its control groups, rounded up,
// or math.MaxInt. Go's own limit, GOMAXPROCS, takes it into account but is never
// below two, and two threads that share less than one CPU wait for each other.
func quota() int { return quotaIn(os.DirFS("/")) }

// quotaIn is quota for a system whose files are those of root (cgroups(7),
// proc_pid_mountinfo(5)).
func quotaIn(root fs.FS) int {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return math.MaxInt
	}
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return math.MaxInt
	}
	least := math.Inf(1)
	for line := range strings.Lines(string(groups)) {
		// 4:cpu,cpuacct:/group of version 1, 0::/group of version 2
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 || part[1] != "" && !has(part[1], "cpu") {
			continue
		}
		dir, top, ok := mountOf(string(mounts), part[1] != "", part[2])
		for ; ok; dir = path.Dir(dir) { // a group has the limits of those above it
			least = min(least, limitOf(root, dir, part[1] != ""))
			ok = dir != top && dir != "."
		}
	}
	if least >= MaxThreads {
		return math.MaxInt
	}
	return max(1, int(math.Ceil(least)))
}

// mountOf says where a group lies among the files, and where those above it end.
func mountOf(mounts string, v1 bool, group string) (dir, top string, ok bool) {
	for line := range strings.Lines(mounts) {
		// 36 25 0:30 /root /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		at, kind := strings.Fields(before), strings.Fields(after)
		if len(at) < 5 || len(kind) < 3 {
			continue
		}
		if v1 && (kind[0] != "cgroup" || !has(kind[2], "cpu")) || !v1 && kind[0] != "cgroup2" {
			continue
		}
		top = strings.TrimPrefix(path.Clean(at[4]), "/")
		inside, found := strings.CutPrefix(group, strings.TrimSuffix(at[3], "/"))
		if !found { // the mount shows another part of the tree
			return top, top, true
		}
		return path.Join(top, path.Clean("/"+inside)), top, true
	}
	return "", "", false
}

// limitOf is the CPUs that a group of its own may use.
func limitOf(root fs.FS, dir string, v1 bool) float64 {
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil { // "max"
			return math.Inf(1)
		}
		return v
	}
	read := func(name string) []string {
		text, _ := fs.ReadFile(root, path.Join(dir, name)) // not there: no limit
		return strings.Fields(string(text))
	}
	limit := read("cpu.max")
	if v1 {
		limit = append(read("cpu.cfs_quota_us"), read("cpu.cfs_period_us")...)
	}
	if len(limit) != 2 {
		return math.Inf(1)
	}
	quota, period := number(limit[0]), number(limit[1])
	if !(quota > 0) || !(period > 0) { // -1: no limit
		return math.Inf(1)
	}
	return quota / period
}

// has says whether a list with commas has an entry.
func has(list, entry string) bool { return strings.Contains(","+list+",", ","+entry+",") }
