package kernel

import (
	"math"
	"testing"
	"testing/fstest"
)

func TestQuota(t *testing.T) {
	const (
		v1     = "30 25 0:26 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct\n"
		v1in   = "31 25 0:27 /docker/abc /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
		v2     = "30 25 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
		groups = "5:cpuset:/other\n4:cpu,cpuacct:/pods/one\n0::/\n"
	)
	for name, c := range map[string]struct {
		cgroup, mounts string
		files          map[string]string
		want           int
	}{
		"no files":    {"", "", nil, math.MaxInt},
		"no limit":    {groups, v1, map[string]string{"cpu,cpuacct/pods/one/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/pods/one/cpu.cfs_period_us": "100000\n"}, math.MaxInt},
		"half, v1":    {groups, v1, map[string]string{"cpu,cpuacct/pods/one/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/pods/one/cpu.cfs_period_us": "100000\n"}, 1},
		"2.5, v1":     {groups, v1, map[string]string{"cpu,cpuacct/pods/one/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/pods/one/cpu.cfs_period_us": "100000\n"}, 3},
		"above, v1":   {groups, v1, map[string]string{"cpu,cpuacct/pods/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/pods/cpu.cfs_period_us": "100000\n"}, 1},
		"in a box":    {"4:cpu:/docker/abc\n", v1in, map[string]string{"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2},
		"outside it":  {"4:cpu:/other\n", v1in, map[string]string{"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2},
		"half, v2":    {"0::/a/b\n", v2, map[string]string{"a/b/cpu.max": "50000 100000\n"}, 1},
		"above, v2":   {"0::/a/b\n", v2, map[string]string{"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3},
		"no max, v2":  {"0::/a\n", v2, map[string]string{"a/cpu.max": "max 100000\n"}, math.MaxInt},
		"nonsense":    {"0::/a\n:\n\n7:cpu\n", v2, map[string]string{"a/cpu.max": "NaN 0\n"}, math.MaxInt},
		"not mounted": {groups, "", nil, math.MaxInt},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			if name != "no files" {
				root["proc/self/cgroup"] = &fstest.MapFile{Data: []byte(c.cgroup)}
				root["proc/self/mountinfo"] = &fstest.MapFile{Data: []byte(c.mounts)}
			}
			for file, text := range c.files {
				root["sys/fs/cgroup/"+file] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := quotaIn(root); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}
