%% @doc What an event costs: the processor time that the node and the writer use for
%% it. The flags of the emulator must keep schedulers from spinning, or their waiting
%% counts as well.
-module(bench_cost).

-export([sections/0, run/2]).

%% @doc The sections that this module measures.
-spec sections() -> [atom()].
sections() -> [cost, profile_ints, profile_strings, profile_rows, profile_dicts, profile_batch].

%% @doc Measures one of them; a profile only runs the stream for something else to measure.
-spec run(atom(), bench:context()) -> ok.
run(cost, Context) ->
    Series = [
        {list_to_atom(lists:concat([Kind, "_", Pool])), fun() -> cost(Kind, Pool, Context) end}
     || Kind <- [ints, strings, rows, dicts, batch], Pool <- [native, python]
    ],
    bench:compare(cost, "us", Series, Context#{warm => false});
run(Profile, Context) ->
    "profile_" ++ Kind = atom_to_list(Profile),
    Pids = [os:getpid(), " ", integer_to_list(bench_os:worker_pid(python)), "\n"],
    Flood = bench_pool:flood(target(list_to_atom(Kind), python, 1 bsl 50), python, options(list_to_atom(Kind))),
    timer:sleep(1000),
    ok = file:write_file(bench:build(Context) ++ "/profile.pids", Pids),
    timer:sleep(10000),
    Rate = bench_pool:stop_flood(Flood),
    io:format("~b values a second, perf in the way~n", [round(Rate)]).

cost(Kind, Pool, Context) ->
    N = bench:scale(1000000, Context) div 256 * 256,
    Writer = bench_os:worker_pid(Pool),
    Node0 = bench_os:cpu_ms(os:getpid()),
    Writer0 = bench_os:cpu_ms(Writer),
    Rate = bench_rates:stream(target(Kind, Pool, N), N, Pool, options(Kind)),
    [
        {"us of the node", (bench_os:cpu_ms(os:getpid()) - Node0) * 1000 / N},
        {"us of the writer", (bench_os:cpu_ms(Writer) - Writer0) * 1000 / N},
        {"us by the clock", 1000000 / Rate}
    ].

target(batch, Pool, N) -> target(ints, Pool, N);
target(Kind, python, N) -> {bench_values, Kind, [N]};
target(Kind, native, N) -> {credit, bench_rates:native_name(Kind, 256, 2, N), []}.

options(batch) -> #{batch => 256};
options(_) -> #{}.
