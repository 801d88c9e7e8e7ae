-- pubsub: the commands that announce a job's events, and ask who listens.
local PUBLISH, NUMSUB = 'PUBLISH', 'NUMSUB'
