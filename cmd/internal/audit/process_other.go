//go:build !linux

package audit

func programOf(int) string { return "" }

func loginUID(int) int { return -1 }
