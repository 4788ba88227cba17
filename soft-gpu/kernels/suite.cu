// Kernels of the executor's tests; `suite.ptx` is this file through nvcc 13.0.88:
//     nvcc -ptx -arch=compute_80 suite.cu -o suite.ptx
#include <cstdio>
#include <cassert>
#include <cuda_fp16.h>
extern "C" __global__ void vector_add(const float* a, const float* b, float* c, int n){ for(int i=blockIdx.x*blockDim.x+threadIdx.x;i<n;i+=gridDim.x*blockDim.x) c[i]=a[i]+b[i]; }
extern "C" __global__ void reduce(const float* in, float* out, int n){
  __shared__ float part[32]; float s=0; for(int i=blockIdx.x*blockDim.x+threadIdx.x;i<n;i+=gridDim.x*blockDim.x) s+=in[i];
  for(int o=16;o;o>>=1) s+=__shfl_down_sync(0xffffffffu,s,o);
  if((threadIdx.x&31)==0) part[threadIdx.x>>5]=s; __syncthreads();
  if(threadIdx.x<32){ s = threadIdx.x < blockDim.x/32 ? part[threadIdx.x]:0; for(int o=16;o;o>>=1) s+=__shfl_xor_sync(0xffffffffu,s,o); if(threadIdx.x==0) out[blockIdx.x]=s; }
}
extern "C" __global__ void votes(unsigned* out){ unsigned t=threadIdx.x; unsigned m=__ballot_sync(~0u,t&1); 
  out[t*8]=m; out[t*8+1]=__any_sync(~0u,t==7); out[t*8+2]=__all_sync(~0u,t<32); unsigned am=0; if(t%3==0){ am=__activemask(); am=__popc(am);} out[t*8+3]=am; __syncwarp();
  out[t*8+4]=__reduce_add_sync(~0u,t); out[t*8+5]=__match_any_sync(~0u,t/4); 
  unsigned v=0; if(t<16){ v=__shfl_sync(0xffffu,t,3);} else { v=__shfl_sync(0xffff0000u,t,20);} out[t*8+6]=v; out[t*8+7]=__reduce_max_sync(~0u,t^5); }
extern "C" __global__ void histogram(const unsigned char* d, int n, unsigned* out){ __shared__ unsigned h[256]; for(int i=threadIdx.x;i<256;i+=blockDim.x) h[i]=0; __syncthreads(); for(int i=blockIdx.x*blockDim.x+threadIdx.x;i<n;i+=gridDim.x*blockDim.x) atomicAdd(&h[d[i]],1u); __syncthreads(); for(int i=threadIdx.x;i<256;i+=blockDim.x) atomicAdd(&out[i],h[i]); }
extern "C" __global__ void atomics(unsigned* u, int* s, unsigned long long* l, float* f, double* d){ unsigned t=threadIdx.x; atomicAdd(u,t); atomicMin(u+1,t+5); atomicMax(u+2,t); atomicAnd(u+3,~(1u<<(t&31))); atomicOr(u+4,1u<<(t&31)); atomicXor(u+5,t); atomicInc(u+6,10); atomicDec(u+7,10); atomicExch(u+8,77u); atomicMin(s,-(int)t); atomicMax(s+1,-(int)t-3); atomicSub(s+2,(int)t); atomicAdd(l,(unsigned long long)t<<33); atomicMax(l+1,(unsigned long long)t<<34); atomicAdd(f,0.5f); atomicAdd(d,0.25); unsigned o=u[9],a; do{a=o; o=atomicCAS(u+9,a,a*3+1);}while(a!=o); }
extern "C" __global__ void lock(int* l, int* c){ for(int i=0;i<2;i++){ bool done=false; while(!done){ if(atomicCAS(l,0,1)==0){ __threadfence(); *(volatile int*)c=*(volatile int*)c+1; __threadfence(); atomicExch(l,0); done=true; } } } }
extern "C" __global__ void hello(int n, const char* s){ printf("block %d thread %2u: %5.2f %s %x %lld %c %p %%\n", blockIdx.x, threadIdx.x, n*0.5+threadIdx.x, "str", 255u, -5LL, 'z', (void*)0x1234); }
__device__ __noinline__ int fib(int n){ return n<2?n:fib(n-1)+fib(n-2); }
__device__ __noinline__ float helper(float a, double b, int* p){ *p += 1; return a*(float)b; }
extern "C" __global__ void calls(int* out, float* f){ int t=threadIdx.x; out[t]=fib(t%10); int loc=t; f[t]=helper((float)t, 2.5, &loc)+loc; }
__constant__ float table[4]={1.5f,2.5f,3.5f,4.5f};
__device__ int counter=7; __device__ int* pointer=&counter;
extern "C" __global__ void consts(float* out){ out[threadIdx.x]=table[threadIdx.x&3]+*pointer; }
extern "C" __global__ void mathf_(const float* x, float* o, int n){ int i=blockIdx.x*blockDim.x+threadIdx.x; if(i>=n) return; float a=x[i]; float* p=o+i*16; p[0]=sinf(a); p[1]=cosf(a); p[2]=expf(a); p[3]=logf(fabsf(a)+0.1f); p[4]=powf(fabsf(a),1.7f); p[5]=tanhf(a); p[6]=sqrtf(fabsf(a)); p[7]=1.0f/a; p[8]=rsqrtf(fabsf(a)+1); p[9]=atan2f(a,2.f); p[10]=erff(a); p[11]=fmodf(a,1.3f); p[12]=__expf(a); p[13]=__sinf(a); p[14]=roundf(a); p[15]=cbrtf(a); }
extern "C" __global__ void mathd_(const double* x, double* o, int n){ int i=blockIdx.x*blockDim.x+threadIdx.x; if(i>=n) return; double a=x[i]; double* p=o+i*8; p[0]=sin(a); p[1]=exp(a); p[2]=log(fabs(a)+0.1); p[3]=pow(fabs(a),1.7); p[4]=sqrt(fabs(a)); p[5]=1.0/a; p[6]=tanh(a); p[7]=floor(a); }
extern "C" __global__ void ints(const int* x, const int* y, long long* o, int n){ int i=blockIdx.x*blockDim.x+threadIdx.x; if(i>=n) return; int a=x[i],b=y[i]; long long*p=o+i*24; unsigned ua=a,ub=b; p[0]=(long long)a*b; p[1]=b? a/b:0; p[2]=b? a%b:0; p[3]=ub?ua/ub:0; p[4]=ub?ua%ub:0; p[5]=__mulhi(a,b); p[6]=__umulhi(ua,ub); p[7]=__popc(a); p[8]=__clz(a); p[9]=__ffs(a); p[10]=__brev(ua); p[11]=__byte_perm(ua,ub,0x5410); p[12]=a>>(b&31); p[13]=ua>>(b&31); p[14]=__funnelshift_l(ua,ub,b); p[15]=min(a,b); p[16]=max(ua,ub); p[17]=abs(a); p[18]=__dp4a(a,b,5); p[19]=((long long)a<<32|ub)/ (b|1); p[20]=((unsigned long long)ua<<32|ub)%(unsigned long long)(ub|1); p[21]=__mul24(a,b); p[22]=__sad(a,b,9u); p[23]=(short)a*(short)b+(signed char)b; }
extern "C" __global__ void halves(const __half* a, const __half* b, __half* o, int n){ int i=threadIdx.x; if(i>=n) return; o[i*6]=__hadd(a[i],b[i]); o[i*6+1]=__hmul(a[i],b[i]); o[i*6+2]=__hfma(a[i],b[i],a[i]); o[i*6+3]=__hmax(a[i],b[i]); o[i*6+4]=__float2half(__half2float(a[i])*3.1f); o[i*6+5]=__hdiv(a[i],b[i]); }
extern "C" __global__ void dynamic(int* o){ extern __shared__ int s[]; s[threadIdx.x]=threadIdx.x*2; __syncthreads(); o[threadIdx.x]=s[blockDim.x-1-threadIdx.x]; int c=__syncthreads_count(threadIdx.x&1); if(threadIdx.x==0) o[0]=c; }
extern "C" __global__ void spin(int* p){ while(*(volatile int*)p==0){} }
extern "C" __global__ void asserts(int n){ assert(n>(int)threadIdx.x); }
extern "C" __global__ void locals(int* o,int k){ int a[16]; for(int i=0;i<16;i++) a[i]=i*threadIdx.x; int s=0; for(int i=0;i<16;i++) s+=a[(i*k)&15]*(i+1); o[threadIdx.x]=s; }
extern "C" __global__ void sw(int* o){ int r; switch(threadIdx.x%7){case 0:r=5;break;case 1:r=9;break;case 2:r=-3;break;case 3:r=100;break;case 4:r=o[100];break;case 5: r=77; break; default:r=1;} o[threadIdx.x]=r; }
extern "C" __global__ void launder(unsigned* o){ unsigned lo,hi; unsigned long long a=o[0]|((unsigned long long)o[1]<<32), b=0xffffffff00000001ull; asm("{ .reg .u32 l,h,x,y; mov.b64 {l,h},%2; mov.b64 {x,y},%3; add.cc.u32 %0,l,x; addc.u32 %1,h,y; }":"=r"(lo),"=r"(hi):"l"(a),"l"(b)); o[2]=lo;o[3]=hi; }
