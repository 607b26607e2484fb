package awsapi

import "maps"

// Retag is what becomes of a resource's tags: add is put to them or in their
// place, the keys of remove go. Old stays as it is, so that who reads it need
// not hold a lock.
func Retag(old, add map[string]string, remove ...string) map[string]string {
	tags := map[string]string{}
	maps.Copy(tags, old)
	maps.Copy(tags, add)
	for _, key := range remove {
		delete(tags, key)
	}
	return tags
}
