%% Where a request may go: to a node, or to whichever node offers the pool. Each node is
%% asked once. `here' is this node, whose name may change.
-record(route, {
    pool :: atom() | pid(),
    to :: {node, here | node()} | any | local_first,
    tried = [] :: [node()]
}).

%% The version of what nodes say to each other. Entry points and groups carry it, so that
%% nodes that have no version in common do not meet.
-define(CLUSTER_VERSION, 1).
