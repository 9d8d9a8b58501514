%% @doc Two nodes in network namespaces of their own, `a' and `b', as on two machines. Either a cable
%% joins them, which can be cut: packets then vanish without an error. Or all goes through a
%% {@link test_link} of this node, which is in between and can delay it.
%%
%% It needs Linux, root, and ip(8). The namespaces go with `stop/1'.
-module(test_netns).

-export([start/1, stop/1, node/4, cut/1, join/1, link/1, traffic/1]).
-export_type([net/0, side/0]).

-type side() :: a | b.
-type net() :: #{a := string(), b := string(), link := none | test_link:link()}.

%% Where each node listens.
-define(LISTEN, 9100).
%% The network of RFC 2544, which nothing else uses.
-define(ADDRESS(Side), "198.18.0." ++ Side).

%% @doc Makes both namespaces, joined by a cable or by a link of this node.
-spec start(cable | link) -> {ok, net()} | {skip, string()}.
start(How) ->
    Prefix = "py" ++ os:getpid(),
    Net = #{a => Prefix ++ "a", b => Prefix ++ "b", link => none},
    try
        [ip(["netns add ", Name]) || Name <- names(Net)],
        [ip(["-n ", Name, " link set lo up"]) || Name <- names(Net)],
        {ok, join(How, Net)}
    catch
        throw:{failed, Output} ->
            stop(Net),
            {skip, "no network namespaces: " ++ Output}
    end.

names(#{a := A, b := B}) -> [A, B].

ip(Arguments) ->
    Output = os:cmd(lists:flatten(["ip ", Arguments, " 2>&1 || echo failed"])),
    case string:find(Output, "failed") of
        nomatch -> Output;
        _ -> throw({failed, string:trim(Output)})
    end.

%% One pair of interfaces, with one end in each namespace. Who has which hardware address is said and not
%% asked for, so that nothing but the nodes' packets passes.
join(cable, Net = #{a := A, b := B}) ->
    ip(["link add eth0 netns ", A, " address ", hardware(a), " type veth peer name eth0 netns ", B, " address ", hardware(b)]),
    [ip(["-n ", Name, " addr add ", Address, "/24 dev eth0"]) || {Name, Address} <- [{A, ?ADDRESS("1")}, {B, ?ADDRESS("2")}]],
    [ip(["-n ", Name, " link set eth0 up"]) || Name <- [A, B]],
    ok = join(Net),
    Net;
%% A pair from each namespace to this one, which hands on nothing but what the link does.
join(link, Net = #{a := A, b := B}) ->
    [
        begin
            ip(["link add ", Name, " type veth peer name eth0 netns ", Name]),
            ip(["addr add 198.18.", Number, ".254/24 dev ", Name]),
            ip(["link set ", Name, " up"]),
            ip(["-n ", Name, " addr add 198.18.", Number, ".1/24 dev eth0"]),
            ip(["-n ", Name, " link set eth0 up"])
        end
     || {Name, Number} <- [{A, "1"}, {B, "2"}]
    ],
    Net#{link := test_link:start(#{listen => {198, 18, 1, 254}, address => {198, 18, 2, 1}, to => ?LISTEN})}.

hardware(a) -> "02:00:00:00:00:01";
hardware(b) -> "02:00:00:00:00:02";
hardware(nobody) -> "02:00:00:00:00:03".

%% @doc Removes the namespaces, with what still runs in them.
-spec stop(net()) -> ok.
stop(Net = #{link := Link}) ->
    _ = Link =:= none orelse test_link:stop(Link),
    [
        begin
            _ = os:cmd("ip netns pids " ++ Name ++ " 2>/dev/null | xargs -r kill -9 2>/dev/null"),
            _ = os:cmd("ip link del " ++ Name ++ " 2>/dev/null"),
            os:cmd("ip netns del " ++ Name ++ " 2>/dev/null")
        end
     || Name <- names(Net)
    ],
    ok.

%% @doc Starts a node in a namespace, with these pools. Only `a' connects: it knows where `b' is.
-spec node(side(), net(), #{atom() => map()}, [string()]) -> test_cluster:member().
node(Side, Net = #{link := Link}, Pools, Args) ->
    {PeerAddress, PeerPort} =
        case Link of
            none -> {?ADDRESS("2"), ?LISTEN};
            _ -> {"198.18.1.254", test_link:port(Link)}
        end,
    Erl = os:find_executable("erl"),
    test_cluster:start(Pools, #{
        name => atom_to_list(Side) ++ os:getpid(),
        host => ?ADDRESS("9"),
        exec => {os:find_executable("ip"), ["netns", "exec", maps:get(Side, Net), Erl]},
        args => Args ++ ["-start_epmd", "false", "-epmd_module", "test_direct_epmd"],
        env => [
            {"LISTEN_PORT", integer_to_list(?LISTEN)},
            {"PEER_ADDRESS", PeerAddress},
            {"PEER_PORT", integer_to_list(PeerPort)}
        ]
    }).

%% @doc Cuts the cable: no packet arrives, and no error comes.
-spec cut(net()) -> ok.
cut(Net) ->
    neighbours(Net, nobody, nobody).

%% @doc Joins its ends again.
-spec join(net()) -> ok.
join(Net) ->
    neighbours(Net, a, b).

neighbours(#{a := A, b := B}, OfB, OfA) ->
    ip(["-n ", A, " neigh replace ", ?ADDRESS("2"), " lladdr ", hardware(OfA), " dev eth0 nud permanent"]),
    ip(["-n ", B, " neigh replace ", ?ADDRESS("1"), " lladdr ", hardware(OfB), " dev eth0 nud permanent"]),
    ok.

%% @doc The link of this node that all goes through.
-spec link(net()) -> test_link:link().
link(#{link := Link}) -> Link.

%% @doc Bytes and packets that have passed a's interface, both ways.
-spec traffic(net()) -> {Bytes :: non_neg_integer(), Packets :: non_neg_integer()}.
traffic(#{a := A}) ->
    Read = fun(Kind) ->
        Files = ["/sys/class/net/eth0/statistics/" ++ Way ++ "_" ++ Kind || Way <- ["rx", "tx"]],
        Texts = os:cmd("ip netns exec " ++ A ++ " cat " ++ lists:join(" ", Files)),
        lists:sum([list_to_integer(Text) || Text <- string:lexemes(Texts, "\n")])
    end,
    {Read("bytes"), Read("packets")}.
