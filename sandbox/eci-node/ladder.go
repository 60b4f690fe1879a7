package main

import "math"

// Spec is the size of an ECI instance, in vCPUs and GiB of memory.
type Spec struct{ VCPU, MemoryGiB float64 }

// rung is one line of the vendor's table: a number of vCPUs and the memory sizes offered with it, rising.
type rung struct {
	vcpu   float64
	memory []float64
}

// The ladder of sizes that ECI sells by vCPU and memory, read from the vendor's page "Specify the number of vCPUs and
// memory size to create a pod" (2024-05-31). This is a reading of its own, independent of the runbook's: a test
// compares the two.
var (
	ladderEverywhere = []rung{
		{0.25, []float64{0.5, 1}},
		{0.5, []float64{1, 2}},
		{1, []float64{2, 4, 8}},
		{2, []float64{1, 2, 4, 8, 16}},
		{4, []float64{2, 4, 8, 16, 32}},
		{8, []float64{4, 8, 16, 32, 64}},
		{12, []float64{12, 24, 48, 96}},
		{16, []float64{16, 32, 64, 128}},
		{24, []float64{24, 48, 96, 192}},
		{32, []float64{32, 64, 128, 256}},
		{52, []float64{96, 192, 384}},
		{64, []float64{128, 256, 512}},
	}
	ladderBigRegions = []rung{
		{2, []float64{6, 10, 12, 14}},
		{4, []float64{6, 10, 12, 14, 18, 20, 22, 24, 26, 28, 30}},
		{6, evenNumbers(6, 48)},
		{8, append([]float64{10, 12, 14, 18, 20, 22, 24, 26, 28, 30}, evenNumbers(34, 62)...)},
	}
	ladderSpot = []rung{
		{2, []float64{2, 4, 8, 16}},
		{4, []float64{4, 8, 16, 32}},
		{8, []float64{8, 16, 32, 64}},
		{12, []float64{12, 24, 48, 96}},
		{16, []float64{16, 32, 64, 128}},
		{24, []float64{24, 48, 96, 192}},
		{32, []float64{32, 64, 128, 256}},
		{52, []float64{96, 192, 384}},
		{64, []float64{128, 256, 512}},
	}
)

// bigRegions offer the sizes of ladderBigRegions as well.
var bigRegions = map[string]bool{
	"cn-hangzhou": true, "cn-shanghai": true, "cn-qingdao": true, "cn-beijing": true, "cn-zhangjiakou": true,
	"cn-huhehaote": true, "cn-wulanchabu": true, "cn-shenzhen": true, "cn-heyuan": true, "cn-guangzhou": true,
	"cn-chengdu": true, "ap-southeast-1": true,
}

// categories are the compute categories and the numbers of vCPUs that each has.
var categories = map[string]struct{ fewest, most float64 }{
	"economy": {0.25, 8},
	"general": {1, 64},
}

// Ladder is a region's list of sizes.
type Ladder struct{ rungs []rung }

// LadderOf picks the sizes for a region; spot instances have a table of their own, the same in all regions.
func LadderOf(region string, spot bool) Ladder {
	if spot {
		return Ladder{ladderSpot}
	}
	if bigRegions[region] {
		return Ladder{append(append([]rung{}, ladderEverywhere...), ladderBigRegions...)}
	}
	return Ladder{ladderEverywhere}
}

// RoundUp finds the smallest size that holds what is asked: the fewest vCPUs first, then the least memory.
func (l Ladder) RoundUp(asked Spec) (Spec, bool) {
	best, found := Spec{math.Inf(1), math.Inf(1)}, false
	for _, rung := range l.rungs {
		for _, memory := range rung.memory {
			if rung.vcpu < asked.VCPU || memory < asked.MemoryGiB {
				continue
			}
			if rung.vcpu < best.VCPU || (rung.vcpu == best.VCPU && memory < best.MemoryGiB) {
				best, found = Spec{rung.vcpu, memory}, true
			}
		}
	}
	return best, found
}

// Within keeps the sizes of one compute category.
func (l Ladder) Within(category string) (Ladder, bool) {
	limits, known := categories[category]
	kept := Ladder{}
	for _, rung := range l.rungs {
		if limits.fewest <= rung.vcpu && rung.vcpu <= limits.most {
			kept.rungs = append(kept.rungs, rung)
		}
	}
	return kept, known
}

func evenNumbers(from, to int) []float64 {
	numbers := []float64{}
	for n := from; n <= to; n += 2 {
		numbers = append(numbers, float64(n))
	}
	return numbers
}
