-- sharded_pubsub: stands in for pubsub.lua in a cluster: a message goes only to the nodes of the shard's slot, not to all.
local PUBLISH, NUMSUB = 'SPUBLISH', 'SHARDNUMSUB'
