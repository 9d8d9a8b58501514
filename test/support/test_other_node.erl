%% @doc Nodes beside the one that the tests run on.
-module(test_other_node).

-export([distribution/0, start/1]).

%% @doc Makes this node one that others can be connected to, unless it is; it stays so.
-spec distribution() -> ok | {skip, string()}.
distribution() ->
    case is_alive() of
        true -> ok;
        false -> start_distribution()
    end.

start_distribution() ->
    %% epmd may run already, or be started so. It does not wait until it listens.
    _ = os:cmd("epmd -daemon"),
    test_eventually:true(fun() -> element(1, erl_epmd:names()) =:= ok end),
    %% A name of its own: other runs on this machine have theirs.
    Name = list_to_atom("py_test_" ++ os:getpid() ++ "@127.0.0.1"),
    case net_kernel:start([Name, longnames]) of
        {ok, _} -> ok;
        {error, Reason} -> {skip, lists:flatten(io_lib:format("no distribution: ~p", [Reason]))}
    end.

%% @doc Starts a node that is connected to this one and knows nothing of this application.
%% `Path' is what it may load code from beside OTP.
-spec start([file:filename()]) -> {pid(), node()}.
start(Path) ->
    Names =
        case net_kernel:longnames() of
            true -> #{host => "127.0.0.1", longnames => true};
            false -> #{}
        end,
    {ok, Peer, Node} = peer:start(Names#{
        name => peer:random_name(),
        args => lists:append([["-pa", Directory] || Directory <- Path]),
        env => [{"ERL_LIBS", ""}]
    }),
    {Peer, Node}.
