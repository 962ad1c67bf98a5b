package bench

import (
	"fmt"
	"io"
)

// Print writes the report for people.
func (r CommandsReport) Print(w io.Writer) {
	if b := r.Backlog; b != nil {
		fmt.Fprintf(w, "%d waiting commands for %d devices\n", b.Commands, r.Devices)
		fmt.Fprintf(w, "  created              %10.0f /s\n", b.CreatedPerSecond)
		fmt.Fprintf(w, "  memory               %10.0f MiB\n", b.MemoryMiB)
		fmt.Fprintf(w, "  ready after restart  %10.1f s, then %.0f MiB\n", b.RestartSeconds, b.MemoryAfterMiB)
		fmt.Fprintf(w, "  lost                 %10d\n", r.Lost)
		return
	}
	fmt.Fprintf(w, "%d commands to %d devices, %d CPUs, everything on this machine, all durable\n", r.Commands, r.Devices, r.CPUs)
	fmt.Fprintf(w, "  full load            %10.0f lifecycles/s\n", r.LifecyclesPerSecond)
	fmt.Fprintf(w, "  CPU of the server    %10.3f s per thousand (load: %.3f)\n", r.CPUSecondsPerThousand, r.LoadCPUPerThousand)
	fmt.Fprintf(w, "  one at a time        %10.2f ms p50, %.2f ms p99\n", r.P50Ms, r.OneAtATimeP99Ms)
	fmt.Fprintf(w, "  half load, %6.0f/s  %10.0f ms p50, %.0f ms p99\n", r.HalfLoadPerSecond, r.HalfLoadP50Ms, r.P99Ms)
	fmt.Fprintf(w, "  memory of the server %10.0f MiB at most\n", r.PeakMemoryMiB)
	fmt.Fprintf(w, "  executed twice %d, lost %d, out of order %d, not ended %d, untrue %d\n",
		r.ExecutedTwice, r.Lost, r.OutOfOrder, r.Unsettled, r.Untrue)
}

// Print writes the report for people.
func (r MQTTReport) Print(w io.Writer) {
	fmt.Fprintf(w, "%s, QoS %d, %d publishers, %d subscribers, %d bytes, %.1f s\n", r.URL, r.QoS, r.Publishers, r.Subscribers, r.Size, r.Seconds)
	fmt.Fprintf(w, "  published   %12.0f /s\n", r.PublishedPerSecond)
	fmt.Fprintf(w, "  delivered   %12.0f /s\n", r.DeliveredPerSecond)
	if r.CPUSecondsPerMillion > 0 {
		fmt.Fprintf(w, "  CPU         %12.2f s of the broker per million delivered (load: %.2f)\n", r.CPUSecondsPerMillion, r.LoadCPUSecondsPerMillion)
	}
	if r.P99Ms > 0 {
		fmt.Fprintf(w, "  latency     %12.2f ms p50, %.2f ms p99, %.2f ms p99.9\n", r.P50Ms, r.P99Ms, r.P999Ms)
	}
	if r.PeakMemoryMiB > 0 {
		fmt.Fprintf(w, "  memory      %12.0f MiB at most\n", r.PeakMemoryMiB)
	}
	if r.BesidePerSecond > 0 {
		fmt.Fprintf(w, "  beside it   %12.0f /s\n", r.BesidePerSecond)
	}
	fmt.Fprintf(w, "  lost %d, out of order %d, duplicates %d, refused %d\n", r.Lost, r.OutOfOrder, r.Duplicates, r.Refused)
}

// Print writes the report for people.
func (r MQTTIdleReport) Print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d idle connections with a subscription each\n", r.URL, r.Connections)
	fmt.Fprintf(w, "  memory      %12.2f KiB each: %.1f MiB before, %.1f MiB with them, %.1f MiB at most\n",
		r.KiBPerConnection, r.BeforeMiB, r.AfterMiB, r.PeakMemoryMiB)
}

// Print writes the report for people.
func (r MQTTQueueReport) Print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d messages of %d bytes for a session that is away\n", r.URL, r.Messages, r.Size)
	fmt.Fprintf(w, "  queued      %12.3f s, %.0f /s\n", r.QueueSeconds, r.QueuedPerSecond)
	fmt.Fprintf(w, "  drained     %12.3f s, %.0f /s\n", r.DrainSeconds, r.DrainedPerSecond)
	if r.PeakMemoryMiB > 0 {
		fmt.Fprintf(w, "  memory      %12.0f MiB at most\n", r.PeakMemoryMiB)
	}
	fmt.Fprintf(w, "  lost %d, out of order %d, duplicates %d, refused %d\n", r.Lost, r.OutOfOrder, r.Duplicates, r.Refused)
}

// Print writes the report for people.
func (r MQTTConnectReport) Print(w io.Writer) {
	fmt.Fprintf(w, "%s, connect, subscribe, disconnect, %.1f s\n", r.URL, r.Seconds)
	fmt.Fprintf(w, "  connected   %12.0f /s\n", r.PerSecond)
	if r.CPUSecondsPerMillion > 0 {
		fmt.Fprintf(w, "  CPU         %12.2f s of the broker per million (load: %.2f)\n", r.CPUSecondsPerMillion, r.LoadCPUSecondsPerMillion)
	}
	fmt.Fprintf(w, "  latency     %12.2f ms p50, %.2f ms p99\n", r.P50Ms, r.P99Ms)
}
